package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/zmtptest"
)

const anyPort = "tcp://127.0.0.1:*"

// publisher returns a socket that loses nothing. It waits until its topics are subscribed.
func publisher(t testing.TB, d *process, topics int) *zmtp.XPub {
	t.Helper()
	pub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{NoDrop: true})
	t.Cleanup(func() { pub.Close() })
	if err := pub.Connect(d.Endpoint("XSUB")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the publisher to know the subscriptions",
		func() bool { return pub.Topics() == topics })
	return pub
}

func publish(t testing.TB, pub *zmtp.XPub, parts ...string) {
	t.Helper()
	if err := pub.Send(testkit.Context(t), zmtp.NewMessageString(parts...)); err != nil {
		t.Fatal(err)
	}
}

// subscribe returns a subscriber.
func subscribe(t testing.TB, endpoint string, topics ...string) *zmtp.Sub {
	t.Helper()
	sub := zmtp.NewSub(zmtp.Config{RecvHWM: -1, RecvBytes: -1})
	t.Cleanup(func() { sub.Close() })
	for _, topic := range topics {
		if err := sub.Subscribe(topic); err != nil {
			t.Fatal(err)
		}
	}
	if err := sub.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	return sub
}

// readRecording returns the messages of a file, with their parts joined by "|". The file must have
// whole messages only.
func readRecording(t testing.TB, name string) (all []string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for parts, err := range recording.NewReader(f).All() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(bytes.Join(parts, []byte("|"))))
	}
	return all
}

// bySender groups messages by their second part.
func bySender(all []string) map[string][]string {
	sorted := map[string][]string{}
	for _, m := range all {
		sender := strings.Split(m, "|")[1]
		sorted[sender] = append(sorted[sender], m)
	}
	return sorted
}

// A subscriber of the copy, libzmq's, and a file get the chosen topics of two nodes. The file, sent
// through a second broker, gives its subscribers the same messages, in the order of each node.
func TestTapFileIsReplayed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tap")
	d := startDaemon(t, "forwarder", "--xsub", anyPort, "--xpub", anyPort,
		"--tap", anyPort, "--tap-file", file, "--tap-topic", "a.", "--tap-topic", "b,")
	z := startLibzmq(t)
	listen := func(name, endpoint, topic string) {
		z.call("socket", testkit.Args{"name": name, "type": "SUB",
			"options": testkit.Args{"RCVHWM": 0}})
		z.call("set", testkit.Args{"name": name, "option": "SUBSCRIBE",
			"value": testkit.Blob(topic)})
		z.call("connect", testkit.Args{"name": name, "endpoint": endpoint})
	}
	listen("tap", d.Endpoint("PUB"), "a.")
	sub := subscribe(t, d.Endpoint("XPUB"), "")
	testkit.Eventually(t, "both subscribers", func() bool {
		s := d.status().Forwarder
		return len(s.Tap.Pub.Peers) == 1 && s.Tap.Pub.Peers[0].Topics == 1 && s.Topics == 1
	})
	want := map[string][]string{}
	const each = 300
	pubs := map[string]*zmtp.XPub{"one": publisher(t, d, 1), "two": publisher(t, d, 1)}
	topics := []string{"a.1", "a.2", "b,", "b.", "c", "a"}
	for i := range each {
		for name, pub := range pubs {
			topic := topics[i%len(topics)]
			publish(t, pub, topic, name, fmt.Sprint(i))
			if i%len(topics) < 3 {
				want[name] = append(want[name], fmt.Sprintf("%s|%s|%d", topic, name, i))
			}
		}
	}
	for range 2 * each {
		if _, err := sub.Recv(testkit.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, got []string, keep func(string) bool) {
		t.Helper()
		for sender, all := range bySender(got) {
			rest := slices.DeleteFunc(slices.Clone(want[sender]),
				func(m string) bool { return !keep(m) })
			if !slices.Equal(all, rest) {
				t.Errorf("%s: of %s %d messages %.3q, want %d %.3q", what, sender, len(all), all,
					len(rest), rest)
			}
		}
		if n := len(bySender(got)); n != len(pubs) {
			t.Errorf("%s: messages of %d nodes", what, n)
		}
	}
	receive := func(name string, n int) (got []string) {
		for range n {
			got = append(got, strings.Join(z.recv(name), "|"))
		}
		return got
	}
	check("libzmq at the tap", receive("tap", 2*each/3),
		func(m string) bool { return strings.HasPrefix(m, "a.") })
	if n := d.Metric("zmtpd_tap_messages_total"); n != each {
		t.Errorf("%v messages copied, want %d", n, each)
	}
	if n := d.Metric(`zmtpd_socket_sent_messages_total{socket="tap"}`); n != 2*each/3 {
		t.Errorf("%v messages sent at the tap", n)
	}
	testkit.Eventually(t, "the file within seconds",
		func() bool { return d.Metric("zmtpd_tap_file_messages_total") == each })
	if s := d.status().Forwarder.Tap; s.File.Messages != each || s.File.Name != file ||
		s.File.Size == 0 || len(s.File.Dropped) > 0 || s.Copied.Messages != each ||
		len(s.Topics) != 2 {
		t.Errorf("status %+v, file %+v", s, s.File)
	}
	d.Terminate()
	everything := func(string) bool { return true }
	check("file", readRecording(t, file), everything)

	second := startDaemon(t, "forwarder", "--xsub", anyPort, "--xpub", anyPort)
	listen("again", second.Endpoint("XPUB"), "")
	testkit.Eventually(t, "the subscriber",
		func() bool { return second.status().Forwarder.Topics == 1 })
	runTool(t, nil, "replay", file, "--xsub", second.Endpoint("XSUB"), "--xpub",
		second.Endpoint("XPUB"))
	check("libzmq behind the second broker", receive("again", each), everything)
}

// stuckSubscriber subscribes and reads nothing.
func stuckSubscriber(t testing.TB, endpoint string, topics ...string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	raw := zmtptest.NewRaw(t, conn)
	greeting := make([]byte, 64)
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], "NULL")
	raw.Send(greeting)
	// READY, Socket-Type SUB
	raw.SendHex("04 19 05 5245414459 0b 536f636b65742d54797065 00000003 535542")
	for _, topic := range topics {
		raw.Send(append([]byte{0, byte(1 + len(topic)), 1}, topic...))
	}
}

// A subscriber of the tap that does not read loses messages, counted for it alone. The others get
// everything, although with the policy block publishers wait for subscribers of the broker.
func TestTapSubscriberThatDoesNotRead(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "forwarder", "--xsub", anyPort, "--xpub", anyPort, "--tap", anyPort,
		"--overload", "block", "--sndhwm", "50", "--shutdown-timeout", "1h")
	stuckSubscriber(t, d.Endpoint("PUB"), "")
	sub := subscribe(t, d.Endpoint("XPUB"), "t")
	healthy := subscribe(t, d.Endpoint("PUB"), "last")
	testkit.Eventually(t, "the subscribers", func() bool {
		s := d.status().Forwarder
		return len(s.Tap.Pub.Peers) == 2 && s.Topics == 1
	})
	pub := publisher(t, d, 1)
	body := strings.Repeat("x", 100<<10)
	sent := 0
	testkit.Eventually(t, "the one that does not read to lose something", func() bool {
		for range 100 {
			publish(t, pub, "t", fmt.Sprint(sent), body)
			sent++
		}
		return d.Metric(`zmtpd_socket_dropped_messages_total{reason="full",socket="tap"}`) > 0
	})
	for i := range sent {
		m, err := sub.Recv(testkit.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.Part(1)); got != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, got)
		}
	}
	s := d.status().Forwarder
	if len(s.XPub.Dropped) > 0 || s.ByTopic["t"].Dropped != nil {
		t.Errorf("subscribers of the broker lost %v, %v", s.XPub.Dropped, s.ByTopic["t"])
	}
	for _, p := range s.XPub.Peers {
		if p.BlockedSeconds > 1 {
			t.Errorf("publishers waited for %v s: %+v", p.BlockedSeconds, p)
		}
	}
	stuck := slices.IndexFunc(s.Tap.Pub.Peers,
		func(p daemon.PeerStatus) bool { return p.SlowSince != nil })
	if stuck < 0 || s.Tap.Pub.Peers[stuck].Dropped["full"] == 0 ||
		s.Tap.Pub.Peers[1-stuck].Dropped != nil {
		t.Errorf("%+v", s.Tap.Pub.Peers)
	}
	const slow = "slow subscriber of the tap: it loses messages"
	d.wantLogged(slow)
	if n := strings.Count(d.Stderr.String(), slow); n != 1 {
		t.Errorf("the log names it %d times", n)
	}
	publish(t, pub, "t", "not for it")
	sub.Recv(testkit.Context(t))
	if m, err := healthy.TryRecv(); err == nil {
		t.Errorf("a subscriber received %q without a subscription", m.Part(0))
	}
	d.Terminate() // does not use up its time for this subscriber
}

// The tap's file is not larger than its limit, is continued at the next start, and a message that a
// killed process left incomplete is cut off.
func TestTapFileLimits(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tap")
	run := func(limit string, n int) *process {
		d := startDaemon(t, "forwarder", "--xsub", anyPort, "--xpub", anyPort, "--tap-file", file,
			"--tap-file-size", limit)
		subscribe(t, d.Endpoint("XPUB"), "t")
		testkit.Eventually(t, "the subscriber",
			func() bool { return d.status().Forwarder.Topics == 1 })
		pub := publisher(t, d, 1)
		for i := range n {
			publish(t, pub, "t", fmt.Sprint(i), strings.Repeat("x", 100))
		}
		testkit.Eventually(t, "all messages to be copied", func() bool {
			s := d.status().Forwarder.Tap
			return s.Copied.Messages == uint64(n) &&
				s.File.Messages+s.File.Dropped["size_limit"] == uint64(n)
		})
		return d
	}
	d := run("10KiB", 1000)
	written := int(d.Metric("zmtpd_tap_file_messages_total"))
	if dropped := d.Metric(`zmtpd_tap_file_dropped_messages_total{reason="size_limit"}`); int(dropped) != 1000-written || written < 70 {
		t.Errorf("%d written, %v dropped", written, dropped)
	}
	d.wantLogged("reached its size limit")
	if n := strings.Count(d.Stderr.String(), "reached its size limit"); n != 1 {
		t.Errorf("the limit is logged %d times", n)
	}
	d.Cmd.Process.Kill()
	<-d.Done()
	fi, err := os.Stat(file)
	if err != nil || fi.Size() > 10<<10 {
		t.Fatal(fi.Size(), err)
	}
	if err := os.Truncate(file, fi.Size()-3); err != nil {
		t.Fatal(err)
	}
	d = run("0", 200)
	d.wantLogged("ended within a message")
	d.Terminate()
	all := readRecording(t, file)
	if len(all) != written-1+200 || !strings.HasPrefix(all[written-1], "t|0|") ||
		!strings.HasPrefix(all[written-2], fmt.Sprintf("t|%d|", written-2)) {
		t.Errorf("%d messages, want %d", len(all), written-1+200)
	}
}

// Mistakes in the tap's flags are errors at the start.
func TestTapUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status int
		says   string
		flags  []string
	}{
		{2, "there is no copy", []string{"--tap-topic", "x"}},
		{1, "--tap-file: recording: " + text, []string{"--tap-file", text}},
		{1, "not a regular file", []string{"--tap-file", dir}},
		{2, "--tap", []string{"--tap", "nonsense"}},
	} {
		status, _, stderr := runHere(t, nil, append([]string{"forwarder", "--xsub", anyPort,
			"--xpub", anyPort, "--http", ""}, c.flags...)...)
		if status != c.status || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: exit status %d, %q", c.flags, status, stderr)
		}
	}
}

// Only clients with a known key reach the tap. They get only topics that they may subscribe to, and
// the copy lacks what a client may not publish.
func TestTapIsGuarded(t *testing.T) {
	t.Parallel()
	keys := newKeyFolder(t)
	server := keys.addServer("server")
	allKey, all := curve.GenerateKeyPair()
	boundKey, bound := curve.GenerateKeyPair()
	_, stranger := curve.GenerateKeyPair()
	keys.add("all", allKey)
	keys.add("bound", boundKey, "publish=a.", "subscribe=a.")
	d := startDaemon(t, append([]string{"forwarder", "--xsub", anyPort, "--xpub", anyPort, "--tap",
		anyPort}, keys.flags()...)...)
	tap := d.Endpoint("PUB")
	z := startLibzmq(t)
	for name, secret := range map[string]curve.Secret{"all": all, "bound": bound, "stranger": stranger} {
		z.open(name, "SUB", tap, server, secret)
		for _, topic := range []string{"a.", "b."} {
			z.call("set", testkit.Args{"name": name, "option": "SUBSCRIBE",
				"value": testkit.Blob(topic)})
		}
	}
	z.event("stranger", handshakeNoDetail, handshakeSucceeded)
	z.open("normal", "SUB", d.Endpoint("XPUB"), server, all)
	z.call("set", testkit.Args{"name": "normal", "option": "SUBSCRIBE", "value": testkit.Blob("")})
	topics := func() (n int) {
		for _, p := range d.status().Forwarder.Tap.Pub.Peers {
			n += p.Topics
		}
		return n
	}
	testkit.Eventually(t, "the subscriptions",
		func() bool { return topics() == 3 && d.status().Forwarder.Topics == 1 })
	for _, secret := range []curve.Secret{bound, all} {
		pub := zmtp.NewXPub(client(t, server, secret), zmtp.XPubOptions{})
		defer pub.Close()
		if err := pub.Connect(d.Endpoint("XSUB")); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the subscription", func() bool { return pub.Topics() == 1 })
		for _, topic := range []string{"b.", "a.", "b.", "a."} {
			publish(t, pub, topic)
		}
		z.recv("normal")
	}
	for name, want := range map[string]string{"bound": "a. a. a. a.", "all": "a. a. b. a. b. a."} {
		var got []string
		for range strings.Fields(want) {
			got = append(got, z.recv(name)[0])
		}
		slices.Sort(got)
		sorted := strings.Fields(want)
		slices.Sort(sorted)
		if !slices.Equal(got, sorted) {
			t.Errorf("%s got %q, want %q", name, got, want)
		}
	}
	if n := d.Metric(`zmtpd_client_peers{client="bound",socket="tap"}`); n != 1 {
		t.Errorf("%v connections", n)
	}
	if n := d.Metric(`zmtpd_authentication_answers_total{socket="tap",status="400"}`); n < 1 {
		t.Errorf("%v refusals", n)
	}
	keys.remove(keys.clients, "bound.key")
	testkit.Eventually(t, "the client with the removed key to be cut off",
		func() bool { return len(d.status().Forwarder.Tap.Pub.Peers) == 1 })
}
