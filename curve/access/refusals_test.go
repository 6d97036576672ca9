package access

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp/loglimit"
	"zmtpd/zmtp/zap"
)

// A client that tries for ever, and one with a new key each time, cause a few lines a minute.
func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newRefusalLog(slog.New(slog.NewTextHandler(&out, nil)))
		refuse := func(key string) {
			k, err := curve.ParseKey([]byte(fmt.Sprintf("%-32.32s", key)))
			if err != nil {
				t.Fatal(err)
			}
			l.add(&zap.Request{Mechanism: "CURVE", Domain: "xsub", Address: "192.0.2.1",
				Credentials: [][]byte{k[:]}},
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
		time.Sleep(loglimit.Window + time.Second)
		refuse("again and again")
		if got := out.String(); strings.Count(got, "client refused") != 1 ||
			!strings.Contains(got, fmt.Sprintf("others=%d", 1001-maxRefusals)) {
			t.Errorf("later: %s", got)
		}
		out.Reset()
		l.add(&zap.Request{Mechanism: "NULL", Domain: "pull", Address: "192.0.2.1"}, zap.Reply{},
			errors.New("no answer"))
		if got := out.String(); !strings.Contains(got,
			"socket=pull peer=192.0.2.1 err=\"no answer\"") {
			t.Errorf("an authenticator that does not answer: %s", got)
		}
	})
}
