//go:build unix

package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// zeekResult is what testdata/zeeknode.c writes.
type zeekResult struct{ Sent, Full int }

// startZeekNode starts the C program. It returns a function that waits for its result, and a
// channel that is closed when it has ended.
func startZeekNode(t *testing.T, args ...string) (wait func() zeekResult, ended <-chan struct{}) {
	t.Helper()
	program, err := zeekNode()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var failed error
	go func() { failed = cmd.Wait(); close(done) }()
	waited := false
	t.Cleanup(func() {
		cancel()
		if <-done; !waited && failed != nil && !t.Failed() {
			t.Error(failed)
		}
	})
	return func() zeekResult {
		t.Helper()
		waited = true
		<-done
		err := failed
		var r zeekResult
		if err == nil {
			err = json.Unmarshal(stdout.Bytes(), &r)
		}
		if err != nil {
			t.Fatalf("zeeknode %s: %v %s", args, err, stderr.Bytes())
		}
		return r
	}, done
}

// TestZeekNodes has nodes with Zeek's use of libzmq, one of them ours, talk to each other through
// each broker: all publish, and all get everything in order.
func TestZeekNodes(t *testing.T) {
	t.Parallel()
	const count = 300
	nodes := []string{"manager", "worker-1", "ours"}
	for name, broker := range brokers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			xsub, xpub := broker(t)
			var waits []func() zeekResult
			for _, node := range nodes[:2] {
				args := append([]string{"node", xsub, xpub, node, strconv.Itoa(count)}, nodes...)
				wait, _ := startZeekNode(t, args...)
				waits = append(waits, wait)
			}
			ourZeekNode(t, xsub, xpub, nodes[2], count, nodes)
			for _, wait := range waits {
				if r := wait(); r != (zeekResult{Sent: count}) {
					t.Errorf("a node sent %d and found no room for %d, want %d and 0", r.Sent,
						r.Full, count)
				}
			}
		})
	}
}

// ourZeekNode does what "zeeknode node" does.
func ourZeekNode(t *testing.T, xsub, xpub, name string, count int, nodes []string) {
	t.Helper()
	pub, sub := open(t, "XPUB", options{verbose: true, nodrop: true}), open(t, "XSUB", options{})
	pub.connect(xsub)
	sub.connect(xpub)
	missing := make(map[string]bool)
	for _, node := range nodes {
		missing["\x01node."+node] = true
	}
	sub.send("\x01ready." + name)
	for len(missing) > 0 {
		notification := pub.recv()[0]
		delete(missing, notification)
		if notification == "\x01ready."+name {
			sub.send("\x01cluster.")
			sub.send("\x01node." + name)
		}
	}
	for i := range count {
		if !pub.trySend("cluster.all", name, strconv.Itoa(i), "payload") {
			t.Fatalf("no room for message %d", i)
		}
	}
	sub.tally(count*len(nodes), patience)().complete(t, count, nodes...)
	sub.send("\x00cluster.")
}

// TestZeekNodeWithoutRoom has a node publish more than we receive, part by part and without
// waiting: what it counts as sent arrives, whole and in order.
func TestZeekNodeWithoutRoom(t *testing.T) {
	t.Parallel()
	const count, size = 20000, 5000
	xsub := open(t, "XSUB", options{recvHWM: 10, recvBuf: 8192})
	xsub.subscribe("cluster.")
	wait, ended := startZeekNode(t, "flood", xsub.listen("tcp://127.0.0.1:*"), strconv.Itoa(count),
		strconv.Itoa(size))
	// It is not received from before it has seen that there is no room.
	testkit.Eventually(t, "back-pressure", func() bool { return xsub.Stats().RecvQueued >= 10 })
	body := strings.Repeat("\x00", size)
	i := 0
	receive := func() {
		for {
			m, ok := xsub.tryRecv(moment)
			if !ok {
				return
			}
			checkMessage(t, m, []string{"cluster.all", "flood", fmt.Sprint(i), body})
			i++
		}
	}
	testkit.Eventually(t, "the end of the node, which waits until all has gone out", func() bool {
		receive()
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	r := wait()
	testkit.Eventually(t, "everything that was sent", func() bool { receive(); return i >= r.Sent })
	if r.Full == 0 || r.Sent+r.Full != count || r.Sent != i {
		t.Errorf("%d sent, %d without room, %d received, of %d", r.Sent, r.Full, i, count)
	}
	if _, err := xsub.in.(*zmtp.XSub).TryRecv(); !errors.Is(err, zmtp.ErrWouldBlock) {
		t.Errorf("then %v", err)
	}
}
