package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp/wire"
)

func TestJSONLogSaysWhatTheTextLogSays(t *testing.T) {
	key, _ := curve.GenerateKeyPair()
	var out bytes.Buffer
	newLog(&out, "json", slog.LevelInfo).Info("something",
		"reason", wire.MechanismMismatch,
		"peer", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5555},
		"address", netip.MustParseAddr("192.0.2.1"),
		"key", key, "public_keys", []curve.Key{key},
		"after", 1500*time.Millisecond,
		"err", errors.New("broken"),
		"flags", []string{"a"}, "n", 7, "on", true, "none", nil,
		slog.Group("group", "reason", wire.NotZMTP))
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "time")
	want := map[string]any{
		"level": "INFO", "msg": "something", "reason": "mechanism_mismatch",
		"peer": "127.0.0.1:5555", "address": "192.0.2.1",
		"key": key.String(), "public_keys": []any{key.String()}, "after": "1.5s", "err": "broken",
		"flags": []any{"a"}, "n": 7.0, "on": true, "none": nil,
		"group": map[string]any{"reason": "not_zmtp"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}
