//go:build linux

package hostile

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// More idle connections than the process may have descriptors exclude nobody: neither HTTP, nor new
// nodes, nor rotation.
func TestIdleConnections(t *testing.T) {
	beside(t)
	const descriptors, connections = 1024, 1100
	limited := func(t *testing.T, args ...string) *testkit.Process {
		limit := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, descriptors)
		return testkit.StartDaemon(t, "sh", append([]string{"-c", limit, zmtpd}, args...)...)
	}
	idle := func(t *testing.T, ctx context.Context, endpoint string, as wire.SocketType) {
		hello := wire.AppendGreeting(nil, "NULL", false)
		hello = wire.AppendCommand(hello, wire.CmdReady,
			wire.AppendProperty(nil, wire.PropSocketType, []byte(as)))
		var all []net.Conn
		for i := range connections {
			c, err := dial(endpoint)
			if err != nil {
				t.Error(err)
				break
			}
			if i%2 == 0 { // the others send nothing
				c.Write(hello)
			}
			all = append(all, c)
		}
		<-ctx.Done()
		for _, c := range all {
			c.Close()
		}
	}
	t.Run("forwarder", func(t *testing.T) {
		beside(t)
		p := limited(t, "forwarder", budgetFlag)
		a := assault{
			name: "idle connections", daemon: "forwarder",
			inputs:  fmt.Sprintf("%d at %d descriptors", connections, descriptors),
			process: p, honest: startEvents(t, p, 1000, zmtp.Config{}),
		}
		a.run = func(t *testing.T, ctx context.Context) {
			var holding sync.WaitGroup
			holding.Go(func() { idle(t, ctx, p.Endpoint("XPUB"), wire.SUB) })
			newcomers(t, ctx, p.Endpoint("XPUB"), zmtp.Config{})
			holding.Wait()
		}
		a.start(t)
	})
	t.Run("logger", func(t *testing.T) {
		beside(t)
		dir := t.TempDir()
		p := limited(t, "logger", budgetFlag, "--dir", dir, "--flush-interval", "50ms", "--rotate",
			"1s")
		a := assault{
			name: "idle connections", daemon: "logger",
			inputs: fmt.Sprintf("%d at %d descriptors, rotation each second", connections,
				descriptors),
			process: p, honest: startLogs(t, p, p.Endpoint("PULL"), zmtp.Config{}),
		}
		a.run = func(t *testing.T,
			ctx context.Context) {
			idle(t, ctx, p.Endpoint("PULL"), wire.PUSH)
		}
		a.start(t)
		if names, err := filepath.Glob(filepath.Join(dir, "conn.*.log")); err != nil ||
			len(names) < 2 {
			t.Errorf("rotated logs are %q, %v", names, err)
		}
	})
}

// newcomers connects new honest subscribers, one after the other, until ctx ends. Each must receive
// an event.
func newcomers(t *testing.T, ctx context.Context, endpoint string, config zmtp.Config) {
	came := 0
	for came == 0 || ctx.Err() == nil {
		sub := zmtp.NewSub(config)
		limit, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		err := sub.Subscribe("event")
		if err == nil {
			err = sub.Connect(endpoint)
		}
		if err == nil {
			_, err = sub.Recv(limit)
		}
		cancel()
		sub.Close()
		if err != nil {
			t.Errorf("after %d others, a new honest subscriber gets no event: %v", came, err)
			return
		}
		came++
	}
	t.Logf("%d new honest subscribers have connected", came)
}

// A CURVE handshake costs the server more than the client. A flood of them neither excludes honest
// clients nor delays them.
func TestCurveHandshakeFlood(t *testing.T) {
	beside(t)
	dir := t.TempDir()
	serverKey, serverSecret := curve.GenerateKeyPair()
	honestKey, honestSecret := curve.GenerateKeyPair()
	_, unknown := curve.GenerateKeyPair()
	for name, c := range map[string]curve.Certificate{
		"server": {Public: serverKey, Secret: &serverSecret},
		"honest": {Public: honestKey},
	} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := c.WriteFiles(filepath.Join(dir, name, name+".key"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	honest, err := curve.NewClient(serverKey, honestSecret)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := curve.NewClient(serverKey, unknown)
	if err != nil {
		t.Fatal(err)
	}
	metadata := wire.Metadata{{Name: wire.PropSocketType, Value: []byte(wire.SUB)}}
	p := startForwarder(t, "--curve-secret-key-file", filepath.Join(dir, "server"),
		"--curve-clients", filepath.Join(dir, "honest"))
	config := zmtp.Config{Mechanism: honest.Mechanism}
	var floods atomic.Int64
	a := assault{
		name: "CURVE handshake flood", daemon: "forwarder",
		inputs:  "16 clients that connect again and again",
		process: p, honest: startEvents(t, p, 1000, config),
	}
	a.run = func(t *testing.T, ctx context.Context) {
		hello, _, err := stranger.Mechanism(metadata).Handshake(wire.AppendGreeting(nil, "CURVE",
			false), nil)
		if err != nil {
			t.Error(err)
			return
		}
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for ctx.Err() == nil {
					c, err := dial(p.Endpoint("XPUB"))
					if err != nil {
						time.Sleep(10 * time.Millisecond)
						continue
					}
					stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
					c.Write(hello)
					// up to WELCOME
					if _, err := io.ReadFull(c, make([]byte, wire.GreetingSize+170)); err == nil {
						floods.Add(1)
					}
					stop()
					c.Close()
				}
			})
		}
		newcomers(t, ctx, p.Endpoint("XPUB"), config)
		all.Wait()
	}
	a.start(t)
	t.Logf("%d handshakes were answered", floods.Load())
}
