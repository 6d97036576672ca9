package curve

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const (
	public = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
	secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
)

func TestParseCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		text     string
		secret   bool
		metadata []CertificateProperty
	}{
		"public": {"metadata\ncurve\n    public-key = \"" + public + "\"\n", false, nil},
		"with everything": {"#   ****  Generated on 2026-01-02 by CZMQ  ****\n\n" +
			"metadata\n    email = \"a@example.org\"\n    name = 'worker 1' # the first\n" +
			"    note = not # quoted\n" +
			"curve\n    public-key = \"" + public + "\"\n    secret-key = \"" + secret + "\"", true,
			[]CertificateProperty{{"email", "a@example.org"}, {"name", "worker 1"},
				{"note", "not"}}},
		"not quoted, tabs, CRLF": {"curve\r\n\tpublic-key=" + public + "\r\n\tsecret-key=" +
			secret + "\r\n", true, nil},
		"other sections and properties": {"other # section\n    public-key = x\ncurve\n    " +
			"version = 2\n" +
			"    public-key = '" + public + "'\n", false, nil},
	} {
		got, err := ParseCertificate([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Public.String() != public || (got.Secret != nil) != c.secret ||
			!slices.Equal(got.Metadata, c.metadata) {
			t.Errorf("%s: %v, %v", name, got.Public, got.Metadata)
		}
		if got.Secret != nil && got.Secret.Text() != secret {
			t.Errorf("%s: the certificate has another secret key", name)
		}
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	pub := "curve\n    public-key = \"" + public + "\"\n"
	other, _ := GenerateKeyPair()
	for text, want := range map[string]string{
		"":        "no public-key",
		"curve\n": "no public-key",
		"metadata\n    public-key = \"" + public +
			"\"\n": "no public-key",
		"curve\npublic-key = \"" + public +
			"\"\n": "no public-key",
		pub + "    public-key = \"" + public +
			"\"\n": "line 3: a second public-key",
		pub + "    secret-key = \"" + secret + "\"\n    secret-key = \"" + secret +
			"\"\n": "line 4: a second secret-key",
		"curve\n    public-key = \"" + public[1:] +
			"\"\n": "line 2: CURVE public key: 39 bytes",
		pub + "    secret-key = \"" + secret[1:] +
			"\"\n": "line 3: CURVE secret key: 39 bytes",
		"curve\n    public-key = \"" + public + "\n":     "not closed",
		"curve\n    public-key = \"" + public + "\" x\n": "not closed",
		"curve\n    = x\n": "without a name",
		"curve\n    public-key = \"" + other.String() + "\"\n    secret-key = \"" + secret +
			"\"\n": "does not belong",
		"\xff\xfe": "UTF-8",
		pub + strings.Repeat("#", maxCertificate): "the limit is",
	} {
		_, err := ParseCertificate([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), secret[1:8]) {
			t.Errorf("the secret key is in the error: %v", err)
		}
	}
}

func TestCertificateFiles(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		k, s := GenerateKeyPair()
		want := Certificate{Public: k, Secret: &s}
		for range rapid.IntRange(0, 4).Draw(rt, "properties") {
			want.Metadata = append(want.Metadata, CertificateProperty{
				rapid.StringMatching(`[a-zA-Z0-9$_@.&+/-]{1,12}`).Draw(rt, "name"),
				rapid.StringMatching(`[^\r\n"\p{C}]*|[^\r\n'\p{C}]*`).Draw(rt, "value"),
			})
		}
		path := filepath.Join(dir, "worker-1.key")
		if err := want.WriteFiles(path, time.Now()); err != nil {
			rt.Fatal(err)
		}
		for _, file := range []string{path, path + "_secret"} {
			got, err := ReadCertificate(file)
			if err != nil {
				rt.Fatal(err)
			}
			if got.Public != k || (got.Secret != nil) != (file != path) || got.Secret != nil &&
				!got.Secret.Equal(s) || !slices.Equal(got.Metadata, want.Metadata) {
				rt.Fatalf("%s: %v, %q", file, got.Public, got.Metadata)
			}
		}
		if err := want.WriteFiles(path, time.Now()); !errors.Is(err, os.ErrExist) {
			rt.Fatalf("a file was replaced: %v", err)
		}
		os.Remove(path)
		if err := want.WriteFiles(path, time.Now()); !errors.Is(err, os.ErrExist) {
			rt.Fatalf("a file was replaced: %v", err)
		}
		if _, err := os.Stat(path); err == nil {
			rt.Fatal("only one file of a pair was left behind")
		}
	})
}

func TestUnwritableCertificateMetadataIsRefused(t *testing.T) {
	for _, p := range []CertificateProperty{{"", "x"}, {"a b", "x"}, {"a=b", "x"}, {"a", "x\ny"},
		{"a", `'"`}, {"a", "\xff"}} {
		path := filepath.Join(t.TempDir(), "x.key")
		c := Certificate{Metadata: []CertificateProperty{p}}
		if err := c.WriteFiles(path, time.Now()); err == nil {
			t.Errorf("the property %q was written", p)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("a file was left behind")
		}
	}
}

func TestSecretsReadableByOthersAreRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this system has no file modes")
	}
	k, s := GenerateKeyPair()
	c := Certificate{Public: k, Secret: &s}
	path := filepath.Join(t.TempDir(), "x.key")
	if err := c.WriteFiles(path, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCertificate(path); err != nil {
		t.Errorf("a public key that others can read is refused: %v", err)
	}
	path += "_secret"
	for mode := range os.FileMode(0o200) {
		if err := os.Chmod(path, 0o400|mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadCertificate(path)
		if (err == nil) != (mode&0o077 == 0) {
			t.Errorf("mode %04o: %v", 0o400|mode, err)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("the error does not say what to do: %v", err)
		}
	}
	if _, err := ReadCertificate(filepath.Dir(path)); err == nil {
		t.Error("a folder was read as a certificate")
	}
}
