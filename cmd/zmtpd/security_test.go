package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
	"zmtpd/curve/zeekkeys"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// keyFolder is a folder with the keys of a server, and one with those of clients.
type keyFolder struct {
	t               *testing.T
	server, clients string
}

func newKeyFolder(t *testing.T) *keyFolder {
	dir := t.TempDir()
	f := &keyFolder{t, filepath.Join(dir, "server"), filepath.Join(dir, "clients")}
	for _, d := range []string{f.server, f.clients} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *keyFolder) flags() []string {
	return []string{"--curve-secret-key-file", f.server, "--curve-clients", f.clients}
}

// addServer makes one more server key.
func (f *keyFolder) addServer(name string) curve.Key {
	f.t.Helper()
	public, secret := curve.GenerateKeyPair()
	c := curve.Certificate{Public: public, Secret: &secret}
	if err := c.WriteFiles(filepath.Join(f.server, name+".key"), time.Now()); err != nil {
		f.t.Fatal(err)
	}
	return public
}

// add adds a client with metadata as lines.
func (f *keyFolder) add(name string, key curve.Key, metadata ...string) {
	f.t.Helper()
	c := curve.Certificate{Public: key}
	for _, line := range metadata {
		name, value, _ := strings.Cut(line, "=")
		c.Metadata = append(c.Metadata, curve.CertificateProperty{Name: name, Value: value})
	}
	path := filepath.Join(f.clients, name+".key")
	os.Remove(path)
	if err := c.WriteFiles(path, time.Now()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *keyFolder) remove(path ...string) {
	f.t.Helper()
	if err := os.Remove(filepath.Join(path...)); err != nil {
		f.t.Fatal(err)
	}
}

// client returns the configuration of a client socket.
func client(t *testing.T, server curve.Key, secret curve.Secret) zmtp.Config {
	t.Helper()
	c, err := curve.NewClient(server, secret)
	if err != nil {
		t.Fatal(err)
	}
	return zmtp.Config{Mechanism: c.Mechanism, ReconnectInterval: 20 * time.Millisecond,
		ReconnectMax: 100 * time.Millisecond}
}

// startUp starts broker and logger.
func startUp(t *testing.T, dir string, flags ...string) *process {
	t.Helper()
	tcp := "tcp://127.0.0.1:*"
	return startDaemon(t, append([]string{"up", "--xsub", tcp, "--xpub", tcp, "--listen", tcp,
		"--dir", dir}, flags...)...)
}

// peersOf returns the peers of a socket by address.
func peersOf(s daemon.SocketStatus) map[string]string {
	all := map[string]string{}
	for _, p := range s.Peers {
		all[p.Address] = p.Client
	}
	return all
}

func parts(t *testing.T, m zmtp.Message) (all []string) {
	t.Helper()
	for p := range m.Parts() {
		all = append(all, string(p))
	}
	return all
}

// The nodes of an encrypted Zeek cluster are libzmq sockets with Zeek's keys. Broker and logger
// take the keys from Zeek's variables.
func TestZeekNodesWithZeeksVariables(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "curve", "testdata", "zeek.env"))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		value = strings.Trim(value, "'")
		t.Setenv(name, value)
		keys[name] = value
	}
	server, err := curve.ParseKey([]byte(keys[zeekkeys.ServerPublic]))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := curve.ParseSecret([]byte(keys[zeekkeys.ClientSecret]))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := startUp(t, dir)
	z := startLibzmq(t)
	z.open("xsub", "XSUB", d.Endpoint("XPUB"), server, secret)
	z.open("xpub", "XPUB", d.Endpoint("XSUB"), server, secret)
	z.open("push", "PUSH", d.Endpoint("PULL"), server, secret)
	z.send("xsub", "\x01zeek.cluster.")
	if got := z.recv("xpub"); strings.Join(got, "|") != "\x01zeek.cluster." {
		t.Fatalf("the publisher was told %q", got)
	}
	z.send("xpub", "zeek.cluster.worker", "node", "broker-bin-v1", "event")
	if got := z.recv("xsub"); strings.Join(got,
		"|") != "zeek.cluster.worker|node|broker-bin-v1|event" {
		t.Fatalf("the subscriber received %q", got)
	}
	z.send("push", parts(t, logMessage(t, "worker-1", "test", "encrypted"))...)
	testkit.Eventually(t, "the log", func() bool {
		content, err := os.ReadFile(filepath.Join(dir, "test.log"))
		return err == nil && strings.Contains(string(content), "\nencrypted\n")
	})
	s := d.status()
	for name, socket := range map[string]daemon.SocketStatus{
		"xsub": s.Forwarder.XSub, "xpub": s.Forwarder.XPub, "pull": s.Logger.Pull,
	} {
		if len(socket.Peers) != 1 || socket.Peers[0].Client != "zeek" {
			t.Errorf("%s has peers %v", name, peersOf(socket))
		}
		if n := d.Metric(fmt.Sprintf(`zmtpd_client_peers{client="zeek",socket=%q}`, name)); n != 1 {
			t.Errorf("%s has %v peers by the metrics", name, n)
		}
	}
	if s.Security.Mechanism != "CURVE" || len(s.Security.ServerKeys) != 1 ||
		s.Security.ServerKeys[0] != server.String() {
		t.Errorf("status: %+v", s.Security)
	}
	if log := d.Stderr.String(); strings.Contains(log, keys[zeekkeys.ServerSecret]) {
		t.Error("the secret key is in the log")
	}
	d.Terminate()
}

// A refused node tries again and connects once its key is added. A node whose key is removed loses
// its connections. The others do not notice.
func TestClientsComeAndGoByReload(t *testing.T) {
	t.Parallel()
	keys := newKeyFolder(t)
	server := keys.addServer("server")
	staysKey, stays := curve.GenerateKeyPair()
	lateKey, late := curve.GenerateKeyPair()
	keys.add("stays", staysKey)
	dir := t.TempDir()
	d := startUp(t, dir, keys.flags()...)
	ctx := t.Context()
	push := zmtp.NewPush(client(t, server, stays), zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(d.Endpoint("PULL")); err != nil {
		t.Fatal(err)
	}
	z := startLibzmq(t)
	z.open("late", "PUSH", d.Endpoint("PULL"), server, late)
	z.event("late", handshakeNoDetail, handshakeFailedAuth, handshakeSucceeded)
	z.event("late", connectRetried, handshakeFailedAuth, handshakeSucceeded)
	// The peer has its answer before the connection counts as failed.
	for _, series := range []string{
		`zmtpd_socket_handshake_failures_total{reason="auth_refused",socket="pull"}`,
		`zmtpd_authentication_answers_total{socket="pull",status="400"}`,
	} {
		testkit.Eventually(t, series, func() bool { return d.Metric(series) >= 1 })
	}
	testkit.Eventually(t, "the refusal in the log", func() bool {
		return strings.Contains(d.Stderr.String(),
			`msg="client refused" socket=pull peer=127.0.0.1 key="`+lateKey.String()) ||
			strings.Contains(d.Stderr.String(),
				`msg="client refused" socket=pull peer=127.0.0.1 key=`+lateKey.String())
	})
	testkit.Eventually(t, "the client that may come in",
		func() bool { return len(d.status().Logger.Pull.Peers) == 1 })

	keys.add("late", lateKey) // the folder is looked after
	z.event("late", handshakeSucceeded)
	z.send("late", parts(t, logMessage(t, "late", "test", "from late"))...)
	if err := push.Send(ctx, logMessage(t, "stays", "test", "from stays")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "both to be clients", func() bool {
		clients := map[string]bool{}
		for _, name := range peersOf(d.status().Logger.Pull) {
			clients[name] = true
		}
		return clients["late"] && clients["stays"]
	})
	before := peersOf(d.status().Logger.Pull)

	keys.remove(keys.clients, "late.key")
	d.Signal(syscall.SIGHUP)
	testkit.Eventually(t, "the removed client to be cut off", func() bool {
		peers := peersOf(d.status().Logger.Pull)
		for address, name := range peers {
			if name != "stays" || before[address] != name {
				return false
			}
		}
		return len(peers) == 1
	})
	// The daemon may have read the folder before the signal.
	testkit.Eventually(t, "a word about SIGHUP",
		func() bool { return strings.Contains(d.Stderr.String(), "keys were read again") })
	if n := d.Metric(`zmtpd_socket_closed_connections_total{reason="auth_refused",socket="pull"}`); n != 1 {
		t.Errorf("%v connections closed by the metrics, want 1", n)
	}
	// An unreadable folder changes nothing.
	broken := filepath.Join(keys.clients, "broken.key")
	if err := os.WriteFile(broken, []byte("curve\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the fault in the log",
		func() bool { return strings.Contains(d.Stderr.String(), "broken.key") })
	if err := push.Send(ctx, logMessage(t, "stays", "test", "goes on")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the log", func() bool {
		content, err := os.ReadFile(filepath.Join(dir, "test.log"))
		return err == nil && strings.Contains(string(content), "\ngoes on\n") &&
			strings.Contains(string(content), "\nfrom late\n")
	})
	if s := d.status().Security; s.Failures == 0 || s.Clients != 1 {
		t.Errorf("%+v", s)
	}
	d.Terminate()
}

// With --auth-refusal 400 a client gets an ERROR: libzmq reports it, and Zeek ends itself.
func TestRefusalThatIsFinal(t *testing.T) {
	t.Parallel()
	keys := newKeyFolder(t)
	server := keys.addServer("server")
	_, stranger := curve.GenerateKeyPair()
	d := startUp(t, t.TempDir(), append(keys.flags(), "--auth-refusal", "400")...)
	z := startLibzmq(t)
	z.open("stranger", "XSUB", d.Endpoint("XPUB"), server, stranger)
	if status := z.event("stranger", handshakeFailedAuth, handshakeSucceeded); status != 400 {
		t.Errorf("status %d, want 400", status)
	}
}

// Clients with the old server key and with the new one connect, until the old one is removed.
func TestServerKeyIsReplaced(t *testing.T) {
	t.Parallel()
	keys := newKeyFolder(t)
	old := keys.addServer("old")
	key, secret := curve.GenerateKeyPair()
	keys.add("node", key)
	d := startUp(t, t.TempDir(), keys.flags()...)
	z := startLibzmq(t)
	xpub := d.Endpoint("XPUB")
	z.open("first", "SUB", xpub, old, secret)
	z.event("first", handshakeSucceeded)

	renewed := keys.addServer("renewed")
	testkit.Eventually(t, "two server keys",
		func() bool { return len(d.status().Security.ServerKeys) == 2 })
	z.open("renewed", "SUB", xpub, renewed, secret)
	z.event("renewed", handshakeSucceeded)
	z.open("again", "SUB", xpub, old, secret)
	z.event("again", handshakeSucceeded)
	z.close("again")

	keys.remove(keys.server, "old.key_secret")
	testkit.Eventually(t, "one server key",
		func() bool { return len(d.status().Security.ServerKeys) == 1 })
	z.open("late", "SUB", xpub, old, secret)
	z.event("late", handshakeNoDetail, handshakeSucceeded)
	z.open("last", "SUB", xpub, renewed, secret)
	z.event("last", handshakeSucceeded)
	testkit.Eventually(t, "the failure in the metrics", func() bool {
		return d.Metric(`zmtpd_socket_handshake_failures_total{reason="cryptographic",socket="xpub"}`) > 0
	})
	// The first connection has stayed.
	testkit.Eventually(t, "three subscribers",
		func() bool { return len(d.status().Forwarder.XPub.Peers) == 3 })
}

// What a client has no permission for has no effect. A change of its file changes its permissions.
func TestPermissionsOfClients(t *testing.T) {
	t.Parallel()
	keys := newKeyFolder(t)
	server := keys.addServer("server")
	allKey, all := curve.GenerateKeyPair()
	boundKey, bound := curve.GenerateKeyPair()
	keys.add("all", allKey)
	keys.add("file", boundKey, "name=bound", "publish=a.", "subscribe=a. b.", "logs=no")
	dir := t.TempDir()
	d := startUp(t, dir, keys.flags()...)
	z := startLibzmq(t)
	z.open("all", "SUB", d.Endpoint("XPUB"), server, all)
	z.call("set", testkit.Args{"name": "all", "option": "SUBSCRIBE", "value": testkit.Blob("")})
	z.open("bound", "XSUB", d.Endpoint("XPUB"), server, bound)
	for _, topic := range []string{"c.", "", "b.", "a"} {
		z.send("bound", "\x01"+topic)
	}
	pub := zmtp.NewXPub(client(t, server, bound), zmtp.XPubOptions{})
	defer pub.Close()
	if err := pub.Connect(d.Endpoint("XSUB")); err != nil {
		t.Fatal(err)
	}
	// "b." follows what was denied, but on another connection than "".
	seen := map[string]bool{}
	for len(seen) < 2 {
		m, err := pub.Recv(testkit.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		seen[string(m.Part(0))] = true
	}
	if !seen["\x01"] || !seen["\x01b."] {
		t.Errorf("subscribed: %v", seen)
	}
	for _, topic := range []string{"b.1", "a.1", "c.", "a.2"} {
		if err := pub.Send(testkit.Context(t), zmtp.NewMessageString(topic)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"a.1", "a.2"} {
		if got := z.recv("all"); got[0] != want {
			t.Errorf("received %q, want %q", got, want)
		}
	}
	testkit.Eventually(t, "what was denied in the metrics", func() bool {
		return d.Metric(`zmtpd_client_denied_total{action="publish",client="bound"}`) == 2 &&
			d.Metric(`zmtpd_client_denied_total{action="subscribe",client="bound"}`) == 3
	})
	if got := d.status().Forwarder.Denied["bound"]; got != (deniedStatus{2, 3}) {
		t.Errorf("status: %v", got)
	}
	for _, what := range []string{"may not publish", "may not subscribe"} {
		d.wantLogged(what)
		if log := d.Stderr.String(); strings.Count(log, what) != 1 ||
			!strings.Contains(log, "client=bound") {
			t.Errorf("log about %q", what)
		}
	}
	// The logger refuses a client without permission to send logs.
	z.open("logs", "PUSH", d.Endpoint("PULL"), server, bound)
	z.event("logs", handshakeNoDetail, handshakeSucceeded)

	keys.add("file", boundKey, "name=bound")
	z.event("logs", handshakeSucceeded)
	// The client connects to the broker again and has all permissions.
	testkit.Eventually(t, "a message that was denied before", func() bool {
		pub.Send(testkit.Context(t), zmtp.NewMessageString("c.again"))
		r := z.call("recv", testkit.Args{"name": "all", "timeout": 100})
		return r.OK
	})
}

// A ZAP handler in another process decides, with and without encryption.
func TestZAPHandlerInAnotherProcess(t *testing.T) {
	t.Parallel()
	z := startLibzmq(t)
	z.call("socket", testkit.Args{"name": "zap", "type": "REP", "options": testkit.Args{}})
	handler := z.call("bind", testkit.Args{"name": "zap", "endpoint": "tcp://127.0.0.1:*"}).Endpoint
	tcp := "tcp://127.0.0.1:*"
	d := startDaemon(t, "forwarder", "--xsub", tcp, "--xpub", tcp, "--zap-handler", handler)
	sub := zmtp.NewSub(zmtp.Config{ReconnectInterval: 20 * time.Millisecond})
	defer sub.Close()
	if err := sub.Connect(d.Endpoint("XPUB")); err != nil {
		t.Fatal(err)
	}
	for _, status := range []string{"400", "200"} { // 400 is not told, so it tries again
		req := z.recv("zap")
		if len(req) != 6 || req[0] != "1.0" || req[2] != "xpub" || req[3] != "127.0.0.1" ||
			req[5] != "NULL" {
			t.Fatalf("request %q", req)
		}
		z.send("zap", "1.0", req[1], status, "", "somebody", "")
	}
	testkit.Eventually(t, "the subscriber", func() bool {
		peers := d.status().Forwarder.XPub.Peers
		return len(peers) == 1 && peers[0].Client == "somebody"
	})
	d.Terminate()
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	tcp := "tcp://127.0.0.1:*"
	for _, c := range []struct {
		flags []string
		in    bool
	}{
		{[]string{"--deny", "127.0.0.0/8"}, false},
		{[]string{"--allow", "10.0.0.0/8", "--allow", "::1"}, false},
		{[]string{"--allow", "127.0.0.1", "--deny", "10.0.0.0/8"}, true},
	} {
		t.Run(strings.Join(c.flags, " "), func(t *testing.T) {
			d := startDaemon(t, append([]string{"forwarder", "--xsub", tcp, "--xpub", tcp},
				c.flags...)...)
			sub := zmtp.NewSub(zmtp.Config{ReconnectInterval: 20 * time.Millisecond})
			defer sub.Close()
			if err := sub.Connect(d.Endpoint("XPUB")); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "an answer", func() bool {
				s := d.status().Forwarder.XPub
				if len(s.Peers) > 0 != c.in && len(s.Peers) > 0 {
					t.Fatal("it was let in")
				}
				if c.in {
					return len(s.Peers) == 1
				}
				return s.HandshakeFailures["auth_refused"] > 1
			})
		})
	}
}

// The tools are CURVE clients of a broker and a logger.
func TestToolsEncrypt(t *testing.T) {
	t.Parallel()
	keys := newKeyFolder(t)
	server := keys.addServer("server")
	dir, logs := t.TempDir(), t.TempDir()
	runTool(t, nil, "keygen", "--dir", dir, "--name", "tool")
	public, err := os.ReadFile(filepath.Join(dir, "tool.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keys.clients, "tool.key"), public, 0o600); err != nil {
		t.Fatal(err)
	}
	d := startUp(t, logs, keys.flags()...)
	as := func(serverKey string, args ...string) []string {
		return append(args, "--curve-server-key", serverKey, "--curve-secret-key-file",
			filepath.Join(dir, "tool.key_secret"))
	}
	sub := start(t, nil, as(server.String(), "sub", "--connect", d.Endpoint("XPUB"), "--count",
		"1")...)
	testkit.Eventually(t, "the subscription",
		func() bool { return d.status().Forwarder.Topics == 1 })
	runTool(t, strings.NewReader("topic\tevent\n"),
		as(filepath.Join(keys.server, "server.key"), "pub", "--connect", d.Endpoint("XSUB"))...)
	if sub.Wait(); sub.Stdout.String() != "topic\tevent\n" {
		t.Errorf("received %q", sub.Stdout.String())
	}

	recording := filepath.Join(t.TempDir(), "recording")
	writeMessages(t, recording, logMessage(t, "node", "test", "one"),
		logMessage(t, "node", "test", "two"))
	runTool(t, nil, as(server.String(), "replay", recording, "--push", d.Endpoint("PULL"))...)
	d.Terminate()
	if got := records(t, filepath.Join(logs, "test.log")); strings.Join(got, " ") != "one two" {
		t.Errorf("logged %q", got)
	}

	// A tool with the wrong key prints why it is not connected.
	d = startUp(t, t.TempDir(), keys.flags()...)
	other, _ := curve.GenerateKeyPair()
	p := start(t, nil, as(other.String(), "sub", "--connect", d.Endpoint("XPUB"))...)
	testkit.Eventually(t, "a word on standard error", func() bool {
		return strings.Contains(p.Stderr.String(),
			"handshake failed: the other side closed the connection (it may not know the key")
	})
}
