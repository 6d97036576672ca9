package curve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"zmtpd/z85"
)

// pairs are key pairs that others have made: from libzmq's test_sodium and from the recorded Zeek
// cluster (golden/cluster-curve.env).
var pairs = []struct{ name, public, secret string }{
	{"libzmq", "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
		"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"},
	{"zeek server", "Pn9MiJtn5GC4fo[OWou=wsFj-6<VYsz:N%Cfxu)[",
		"=iDa}}jfPx9qJGP]vz-Zt(^XyqfIMm9YBhIJrHXd"},
	{"zeek client", "Z03P5:Mb2WW!w7dxKxSHlbqe[amj::jv8?{RROy@",
		"nC[TA<IvS[MTFo9i3?Zn90:vgL=iid<GRt?Ro<xh"},
}

func TestPublicKeyOfRecordedSecrets(t *testing.T) {
	for _, p := range pairs {
		s, err := ParseSecret([]byte(p.secret))
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		k, err := ParseKey([]byte(p.public))
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if got := s.Public(); !got.Equal(k) || got.String() != p.public {
			t.Errorf("%s: public key is %v, want %s", p.name, got, p.public)
		}
		if s.Text() != p.secret {
			t.Errorf("%s: the secret key reads back as another text", p.name)
		}
	}
}

func TestKeyFormsAreTheSameKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want Key
		copy(want[:], rapid.SliceOfN(rapid.Byte(), KeySize, KeySize).Draw(t, "key"))
		text := want.String()
		for _, form := range [][]byte{want[:], []byte(text), []byte(text + "\x00")} {
			if got, err := ParseKey(form); err != nil || got != want {
				t.Fatalf("%q: %v, %v", form, got, err)
			}
			if got, err := ParseSecret(form); err != nil || !got.Equal(Secret(want)) {
				t.Fatalf("%q: secret differs, %v", form, err)
			}
		}
	})
}

func TestParseKeyRefusesEveryOtherLength(t *testing.T) {
	digits := strings.Repeat("0", 100)
	for n := range len(digits) {
		_, err := ParseKey([]byte(digits[:n]))
		if ok := n == KeySize || n == TextSize; ok != (err == nil) {
			t.Errorf("length %d: %v", n, err)
		}
		if err != nil && !strings.Contains(err.Error(), "40 characters of Z85") {
			t.Errorf("length %d: the error does not say what a key looks like: %v", n, err)
		}
	}
}

func TestParseKeyRefusesBadText(t *testing.T) {
	var alphabet *z85.AlphabetError
	if _, err := ParseKey([]byte(strings.Repeat("0", 39) + " ")); !errors.As(err, &alphabet) {
		t.Errorf("a space: %v", err)
	}
	var overflow *z85.OverflowError
	if _, err := ParseKey([]byte(strings.Repeat("#", 40))); !errors.As(err, &overflow) {
		t.Errorf("overflow: %v", err)
	}
}

func TestGeneratedPairsBelongTogetherAndDiffer(t *testing.T) {
	k1, s1 := GenerateKeyPair()
	k2, s2 := GenerateKeyPair()
	if !s1.Public().Equal(k1) || !s2.Public().Equal(k2) {
		t.Error("the public key does not belong to the secret key")
	}
	if k1.Equal(k2) || s1.Equal(s2) {
		t.Error("two pairs are equal")
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	_, s := GenerateKeyPair()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+" ", s)
		fmt.Fprintf(&out, verb+" ", struct{ S Secret }{s})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "key", s)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "key", s, "in", struct{ S Secret }{s})
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)

	for _, leak := range []string{s.Text(), fmt.Sprintf("%x", s[:]), fmt.Sprintf("%X", s[:4]),
		fmt.Sprint(s[:4])} {
		if strings.Contains(out.String(), strings.Trim(leak, "[]")) {
			t.Errorf("%s is in the output:\n%s", leak, out.String())
		}
	}
}
