package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp/zap"
)

// A client that tries for ever, and one that makes up a key each time, are a few lines a minute.
func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := refusalLog{log: slog.New(slog.NewTextHandler(&out, nil))}
		refuse := func(key string) {
			k, err := curve.ParseKey([]byte(fmt.Sprintf("%-32.32s", key)))
			if err != nil {
				t.Fatal(err)
			}
			l.add(&zap.Request{Mechanism: "CURVE", Domain: "xsub", Address: "192.0.2.1", Credentials: [][]byte{k[:]}},
				zap.Reply{Status: zap.StatusDenied, Text: "unknown"}, nil)
		}
		for range 100 {
			refuse("again and again")
		}
		if n := strings.Count(out.String(), "client refused"); n != 1 {
			t.Errorf("one client: %d lines\n%s", n, out.String())
		}
		for i := range 1000 {
			refuse(fmt.Sprint("made up ", i))
		}
		if n := strings.Count(out.String(), "client refused"); n != maxRefusals {
			t.Errorf("a thousand keys: %d lines, want %d", n, maxRefusals)
		}
		out.Reset()
		time.Sleep(refusalWindow + time.Second)
		refuse("again and again")
		if got := out.String(); strings.Count(got, "client refused") != 1 || !strings.Contains(got, fmt.Sprintf("others=%d", 1001-maxRefusals)) {
			t.Errorf("later: %s", got)
		}
		out.Reset()
		l.add(&zap.Request{Mechanism: "NULL", Domain: "pull", Address: "192.0.2.1"}, zap.Reply{}, errors.New("no answer"))
		if got := out.String(); !strings.Contains(got, "socket=pull peer=192.0.2.1 err=\"no answer\"") {
			t.Errorf("an authenticator that does not answer: %s", got)
		}
	})
}

func TestAddressOfAFlag(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::1": "::1/128", "::ffff:192.0.2.7": "192.0.2.7/32", "10.0.0.0/8": "10.0.0.0/8", "fe80::/10": "fe80::/10",
		"10.0.0.1/8": "", "10.0.0.0/33": "", "localhost": "", "": "",
	} {
		var p prefix
		err := p.UnmarshalText([]byte(text))
		if got := netip.Prefix(p).String(); want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestKeyOfAClientFlag(t *testing.T) {
	key, _ := curve.GenerateKeyPair()
	for text, name := range map[string]string{"worker-1=" + key.String(): "worker-1", key.String(): key.String()} {
		c, err := parseClientKey(text)
		if err != nil || c.Key != key || c.Name != name {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "=", key.String()[1:], "a=" + key.String()[1:], key.String() + "x"} {
		if c, err := parseClientKey(text); err == nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}
