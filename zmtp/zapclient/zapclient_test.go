package zapclient

import (
	"bufio"
	"context"
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler is a ZAP handler in another process, on libzmq's REP or ROUTER socket.
const handler = `
import sys, zmq
s = zmq.Context().socket(getattr(zmq, sys.argv[1]))
s.linger = 0
s.bind("tcp://127.0.0.1:*")
print(s.last_endpoint.decode(), flush=True)
while True:
    frames = s.recv_multipart()
    env = frames[:2] if sys.argv[1] == "ROUTER" else []
    req = frames[len(env):]
    version, id, domain, address, identity, mechanism = req[:6]
    ok = req[6:] == [b"zeek", b"secret"]
    s.send_multipart(env + [version, id, b"200" if ok else b"400", b"text", b"user" if ok else b"", b""])
`

func start(t *testing.T, socket string) string {
	t.Helper()
	cmd := exec.Command(testkit.Python(t), "-c", handler, socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// authenticate asks until the handler is connected.
func authenticate(t *testing.T, c *Client, credentials ...[]byte) (zap.Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	for {
		r, err := c.Authenticate(ctx,
			&zap.Request{ID: "1", Mechanism: "PLAIN", Credentials: credentials})
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return r, err
		}
		runtime.Gosched()
	}
}

func TestHandlerInAnotherProcess(t *testing.T) {
	for _, socket := range []string{"REP", "ROUTER"} {
		t.Run(socket, func(t *testing.T) {
			c, err := Dial(start(t, socket), zmtp.Config{ReconnectInterval: 10 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r, err := authenticate(t, c, []byte("zeek"), []byte("secret"))
			if err != nil || r.Status != zap.StatusOK || r.UserID != "user" || r.ID != "1" {
				t.Fatalf("%+v %v", r, err)
			}
			r, err = authenticate(t, c, []byte("zeek"), []byte("wrong"))
			if err != nil || r.Status != zap.StatusDenied {
				t.Fatalf("%+v %v", r, err)
			}
		})
	}
}

func TestNobodyThereIsUnavailable(t *testing.T) {
	c, err := Dial("tcp://127.0.0.1:1", zmtp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Authenticate(t.Context(), &zap.Request{}); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
}
