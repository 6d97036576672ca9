package zap

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"zmtpd/zmtp/zmtptest"
)

// The package makes the requests that libzmq sent to its handler, and replies have the effect that
// they had on libzmq.
func TestVectors(t *testing.T) {
	played := 0
	for name, v := range zmtptest.Vectors(t) {
		if v.Headers["layer"] != "zap" {
			continue
		}
		played++
		t.Run(name, func(t *testing.T) {
			var request, reply [][]byte
			for _, s := range v.Connections[0] {
				switch s.Kind {
				case zmtptest.Client:
					request = append(request, s.Data)
				case zmtptest.Server:
					reply = append(reply, s.Data)
				}
			}
			if len(request[0]) != 0 {
				t.Fatalf("the delimiter of the request is %q", request[0])
			}
			r, err := ParseRequest(request[1:])
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Frames(); !bytes.Equal(bytes.Join(got, []byte{0xff}),
				bytes.Join(request[1:], []byte{0xff})) || len(got) != len(request)-1 {
				t.Errorf("the request is %q, want %q", got, request[1:])
			}
			if r.ID != "1" || r.Mechanism != v.Headers["mechanism"] {
				t.Errorf("request %+v", r)
			}
			if r.Mechanism == "CURVE" &&
				(len(r.Credentials) != 1 ||
					!bytes.Equal(r.Credentials[0], v.Key(t, "client-public"))) {
				t.Errorf("credentials %x", r.Credentials)
			}
			if len(reply) == 0 {
				return
			}
			if len(reply[0]) != 0 { // zapclient checks the delimiter
				if want := v.Headers["event"]; !strings.HasPrefix(want,
					fmt.Sprintf("HANDSHAKE_FAILED_PROTOCOL(%#x)", uint32(FaultUnspecified))) {
					t.Errorf("a delimiter that is not empty has the fault %s", want)
				}
				return
			}
			checkReply(t, v, reply[1:])
		})
	}
	if played != 11 {
		t.Errorf("%d recordings, want 11", played)
	}
}

func checkReply(t *testing.T, v zmtptest.Vector, frames [][]byte) {
	t.Helper()
	event, _, _ := strings.Cut(v.Headers["event"], ",")
	r, err := ParseReply(frames, "1")
	if fault, ok := errors.AsType[*Error](err); ok {
		if want := fmt.Sprintf("HANDSHAKE_FAILED_PROTOCOL(%#x)",
			uint32(fault.Fault)); want != event {
			t.Errorf("fault %s, want %s", want, event)
		}
		return
	}
	got := "none"
	if r.Status != StatusOK {
		got = "HANDSHAKE_FAILED_AUTH(" + strconv.Itoa(r.Status) + ")"
	}
	if got != event {
		t.Errorf("%s, want %s", got, event)
	}
	if again := r.Frames(); !bytes.Equal(bytes.Join(again, []byte{0xff}),
		bytes.Join(frames, []byte{0xff})) {
		t.Errorf("the reply is %q, want %q", again, frames)
	}
	if want := v.Headers["message-property-User-Id"]; want != "" && r.UserID != want {
		t.Errorf("user id %q, want %q", r.UserID, want)
	}
	for _, name := range []string{"Hello", "X-role"} {
		if want := v.Headers["message-property-"+name]; want != "" &&
			!bytes.Contains(r.Metadata, []byte(name)) {
			t.Errorf("the metadata %q lack %s", r.Metadata, name)
		}
	}
}
