package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/capture"
	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// clusterCapture is the capture of a whole Zeek cluster from start to end: XPUB at port 15555, XSUB
// at 15556, the logger's PULL at 15557.
var clusterCapture = filepath.Join("..", "..", "capture", "testdata", "cluster.pcap.gz")

// sentTo counts the messages that were sent to a port of the capture, without subscriptions.
func sentTo(t *testing.T, port uint16) (n int) {
	t.Helper()
	f, err := os.Open(clusterCapture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := capture.NewReader(f,
		capture.Options{Select: func(_,
			server netip.AddrPort) bool {
			return server.Port() == port
		}})
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range r.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == capture.Message && ev.To().Port() == port {
			n++
		}
	}
	if n == 0 {
		t.Fatalf("nothing was sent to port %d", port)
	}
	return n
}

// The logs in a capture of a cluster are those that its logger wrote, except for the logger's own
// logs, which were not sent.
func TestReplayLogsOfCapture(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	logger := startDaemon(t, "logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir)
	runTool(t, nil, "replay", clusterCapture, "--push", logger.Endpoint("PULL"))
	logger.Terminate()
	if got, want := logger.summary("logger")["files.written"],
		uint64(sentTo(t, 15557)); got != want {
		t.Errorf("%d messages written, want %d", got, want)
	}
	for _, name := range []string{"conn.log", "dns.log", "http.log", "files.log"} {
		got, want := records(t, filepath.Join(dir, name)),
			records(t, filepath.Join("..", "..", "capture", "testdata", "cluster.logs", name))
		slices.Sort(got) // two workers sent them
		slices.Sort(want)
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: records\n%q\nwant\n%q", name, got, want)
		}
	}
}

// A subscriber to everything receives all events of the capture from the first one on, each once,
// although the broker in the capture sent them again.
func TestReplayEventsOfCapture(t *testing.T) {
	t.Parallel()
	want := sentTo(t, 15556)
	for _, probe := range []bool{true, false} {
		broker := startDaemon(t, "forwarder", "--xsub", "tcp://127.0.0.1:*", "--xpub",
			"tcp://127.0.0.1:*")
		sub := start(t, nil, "sub", "--connect", broker.Endpoint("XPUB"), "--format", "recording")
		testkit.Eventually(t, "the subscription",
			func() bool { return broker.Metric("zmtpd_forwarder_topics") == 1 })
		args := []string{"replay", clusterCapture, "--xsub", broker.Endpoint("XSUB"), "--port",
			"15556", "--port", "15557"}
		if probe {
			args = append(args, "--xpub", broker.Endpoint("XPUB"))
		}
		runTool(t, nil, args...)
		broker.Terminate() // the broker sends what waits for the subscriber
		sub.Terminate()
		got := 0
		for r := recording.NewReader(strings.NewReader(sub.Stdout.String())); ; got++ {
			parts, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || len(parts) != 4 || string(parts[2]) != "broker-bin-v1" {
				t.Fatalf("not an event: %q, %v", parts, err)
			}
		}
		if got != want {
			t.Errorf("with probe %v: %d messages, want %d", probe, got, want)
		}
	}
}

// A publisher that does not wait for subscriptions loses what it sends before they arrive. The test
// plays the broker and delays them.
func TestReplayWaitsForSubscriptions(t *testing.T) {
	t.Parallel()
	want := sentTo(t, 15556)
	for _, probe := range []bool{true, false} {
		xsub := zmtp.NewXSub(zmtp.Config{})
		defer xsub.Close()
		xpub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{})
		defer xpub.Close()
		publishers, err := xsub.Listen("tcp://127.0.0.1:*")
		if err != nil {
			t.Fatal(err)
		}
		subscribers, err := xpub.Listen("tcp://127.0.0.1:*")
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"replay", clusterCapture, "--xsub", publishers}
		if probe {
			args = append(args, "--xpub", subscribers)
			// One early subscription does not mean that all are there.
			if err := xsub.Subscribe("early"); err != nil {
				t.Fatal(err)
			}
		}
		limited, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		p := start(t, nil, args...)
		testkit.Eventually(t, "the publisher", func() bool { return len(xsub.Peers()) == 1 })
		var probed zmtp.Message
		if probe {
			if probed, err = xpub.Recv(limited); err != nil {
				t.Fatal(err)
			}
		}
		if err := xsub.Subscribe(""); err != nil {
			t.Fatal(err)
		}
		if probe {
			if err := xsub.TrySend(probed); err != nil {
				t.Fatal(err)
			}
		}
		for i := range want {
			if _, err := xsub.Recv(limited); err != nil {
				t.Fatalf("probe %v: message %d of %d: %v", probe, i, want, err)
			}
		}
		if status := p.Wait(); status != 0 {
			t.Errorf("exit status %d", status)
		}
	}
}

// replay names the sessions that it cannot read.
func TestReplayOfEncryptedCapture(t *testing.T) {
	t.Parallel()
	encrypted := filepath.Join("..", "..", "capture", "testdata", "cluster-curve.pcap.gz")
	pull := start(t, nil, "pull", "--bind", "tcp://127.0.0.1:*")
	p := start(t, nil, "replay", encrypted, "--push", pull.boundEndpoint())
	if status := p.Wait(); status != 1 || !strings.Contains(p.Stderr.String(), "encrypted") {
		t.Errorf("exit status %d, stderr %q", status, p.Stderr.String())
	}
}

func TestReplayAtARate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	recording := filepath.Join(dir, "recording")
	pull := start(t, nil, "pull", "--bind", "tcp://127.0.0.1:*", "--count", "5", "--format",
		"recording")
	runTool(t, strings.NewReader("1\n2\n3\n4\n5\n"), "push", "--connect", pull.boundEndpoint())
	pull.Wait()
	if err := os.WriteFile(recording, []byte(pull.Stdout.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	pull = start(t, nil, "pull", "--bind", "tcp://127.0.0.1:*", "--count", "10")
	p := start(t, nil, "replay", recording, "--push", pull.boundEndpoint(), "--rate", "50",
		"--repeat", "2")
	if p.Wait() != 0 || pull.Wait() != 0 {
		t.Fatal(p.Stderr.String())
	}
	if got := pull.Stdout.String(); got != "1\n2\n3\n4\n5\n1\n2\n3\n4\n5\n" {
		t.Errorf("received %q", got)
	}
	m := regexp.MustCompile(`replayed 10 messages, 10 bytes in (\S+): (\d+) messages/s`).
		FindStringSubmatch(p.Stderr.String())
	if m == nil {
		t.Fatalf("summary %q", p.Stderr.String())
	}
	if took, err := time.ParseDuration(m[1]); err != nil || took < 9*20*time.Millisecond {
		t.Errorf("ten messages at 50/s took %s, %v", m[1], err)
	}
	if rate, _ := strconv.Atoi(m[2]); rate > 60 {
		t.Errorf("rate %d/s, want about 50", rate)
	}
}

// The recording of a killed writer may end within a message. replay sends the whole messages and
// reports the rest.
func TestReplayOfTornRecording(t *testing.T) {
	t.Parallel()
	var file []byte
	for _, text := range []string{"one", "two", "three"} {
		var err error
		if file, err = recording.AppendMessage(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for cut, want := range map[int]string{
		1: "one\ntwo\n", len("three") + 3: "one\ntwo\n", len("three") + 8: "one\ntwo\n",
		3 + 8 + 5 + 8: "one\n",
	} {
		name := filepath.Join(t.TempDir(), "torn")
		if err := os.WriteFile(name, file[:len(file)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		pull := start(t, nil, "pull", "--bind", "tcp://127.0.0.1:*", "--count",
			fmt.Sprint(2*strings.Count(want, "\n")))
		p := start(t, nil, "replay", name, "--push", pull.boundEndpoint(), "--repeat", "2")
		if status := p.Wait(); status != 0 {
			t.Errorf("cut off %d: exit status %d", cut, status)
		}
		torn := cut != len("three")+8 && cut != 3+8+5+8
		if said := strings.Contains(p.Stderr.String(),
			"ends within a message; the messages before it were sent"); said != torn {
			t.Errorf("cut off %d: stderr %q", cut, p.Stderr.String())
		}
		if pull.Wait(); pull.Stdout.String() != want+want {
			t.Errorf("cut off %d: received %q, want %q twice", cut, pull.Stdout.String(), want)
		}
	}
}

func TestWaitUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := waitUntil(t.Context(), began.Add(time.Hour)); err != nil ||
			time.Since(began) != time.Hour {
			t.Errorf("waited %v, %v", time.Since(began), err)
		}
		if err := waitUntil(t.Context(), began); err != nil || time.Since(began) != time.Hour {
			t.Errorf("waited for the past: %v, %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := waitUntil(ctx, time.Now().Add(time.Hour)); err == nil ||
			time.Since(began) != time.Hour+time.Second {
			t.Errorf("ended after %v with %v", time.Since(began), err)
		}
	})
}

// An encrypted capture is replayed with its key log.
func TestReplayDecrypted(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "capture", "testdata", "pushed-curve")
	pull := start(t, nil, "pull", "--bind", "tcp://127.0.0.1:*", "--count", "3")
	runTool(t, nil, "replay", file+".pcap", "--push", pull.boundEndpoint(), "--keylog",
		file+".keys")
	if status := pull.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	got, want := pull.Stdout.String(), "log-write\tone\nlog-write\ttwo\nlog-write\tthree\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// With --speed the messages go out at the times of the capture, scaled, and not before.
func TestReplaySpeed(t *testing.T) {
	t.Parallel()
	name := recordingAsCapture(t, [][][]byte{{[]byte("one")}, {[]byte("two")}, {[]byte("three")}},
		time.Second)
	for speed, least := range map[string]time.Duration{"10": 200 * time.Millisecond,
		"4": 500 * time.Millisecond, "": 0} {
		pull := start(t, nil, "pull", "--bind", "tcp://127.0.0.1:*", "--count", "3")
		args := []string{"replay", name, "--push", pull.boundEndpoint()}
		if speed != "" {
			args = append(args, "--speed", speed)
		}
		began := time.Now()
		runTool(t, nil, args...)
		if took := time.Since(began); took < least {
			t.Errorf("--speed %s: it took %v, want at least %v", speed, took, least)
		}
		if status := pull.Wait(); status != 0 {
			t.Errorf("exit status %d", status)
		}
	}
}
