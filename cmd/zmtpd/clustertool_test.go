package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"zmtpd/forwarder/cluster"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// brokerFlags are the flags of a tool for a broker.
func brokerFlags(broker *process) []string {
	return []string{"--xsub", broker.Endpoint("XSUB"), "--xpub", broker.Endpoint("XPUB")}
}

// follow starts a tool at a broker and waits until the broker knows its subscriptions.
func follow(t *testing.T, broker *process, args ...string) *process {
	t.Helper()
	before := topicsOf(broker)
	p := start(t, nil, append(args, brokerFlags(broker)...)...)
	testkit.Eventually(t, "the tool has subscribed",
		func() bool { return topicsOf(broker) > before })
	return p
}

// topicsOf returns the number of subscriptions of all subscribers.
func topicsOf(broker *process) (n int) {
	for _, p := range broker.status().Forwarder.XPub.Peers {
		n += p.Topics
	}
	return n
}

// lines waits for so many lines of output.
func (p *process) lines(n int) []string {
	p.t.Helper()
	var lines []string
	testkit.Eventually(p.t, "lines of output", func() bool {
		lines = strings.Split(strings.TrimSuffix(p.Stdout.String(), "\n"), "\n")
		return len(lines) >= n && p.Stdout.String() != ""
	})
	return lines
}

// What "publish" publishes, "events" prints, as text and as JSON, by topic, name and node.
func TestPublishAndEvents(t *testing.T) {
	t.Parallel()
	broker := startDaemon(t, "forwarder")
	text := follow(t, broker, "events", "--event", "Site::*", "--topic", "site.", "--count", "2")
	lines := follow(t, broker, "events", "--format", "json")
	node := joinCluster(t, broker, "worker-1", zmtp.Config{})
	named := follow(t, broker, "events", "--node", "worker-1", "--event", "Site::*",
		"--topic", "site.", "--count", "1")
	publish := func(args ...string) {
		t.Helper()
		runTool(t, nil, append(append([]string{"publish"}, args...), brokerFlags(broker)...)...)
	}
	publish("Site::block", "addr:10.0.0.1", "interval:10m", "set[string]:b,a", "int:-1",
		"--topic", "site.blocks")
	publish("Other::event", "--topic", "site.blocks")
	publish("Site::odd", `string:"a\tb\xff"`, "table[string,record[port,none]]:x=[53/udp,]",
		`{"@data-type":"timespan","data":"5ms"}`, "--topic", "site.blocks", "--serializer",
		"broker-json-v1")
	publish("Site::to_node", "--node", "worker-1")

	if got := text.lines(2); len(got) != 2 ||
		!strings.HasSuffix(got[0], ` site.blocks Site::block(10.0.0.1, 10m0s, {"a", "b"}, -1)`) ||
		!strings.HasSuffix(got[1], ` site.blocks Site::odd("a\tb\xff", {"x": [53/udp, -]}, 5ms)`) {
		t.Errorf("%q", got)
	}
	if status := text.Wait(); status != 0 {
		t.Errorf("exit status %d\n%s", status, text.Stderr.String())
	}
	var events []string
	testkit.Eventually(t, "all events", func() bool {
		events = nil
		for _, line := range lines.lines(1) {
			var e struct {
				Time, ID, Topic, Event string
				Args                   []any
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time == "" || e.ID == "" {
				t.Fatalf("%s: %v", line, err)
			}
			if !strings.HasPrefix(e.Event, "Cluster::") {
				args, _ := json.Marshal(e.Args)
				events = append(events, e.Topic+" "+e.Event+" "+string(args))
			}
		}
		return len(events) == 4
	})
	want := []string{`site.blocks Site::block ["10.0.0.1",600,["a","b"],-1]`,
		"site.blocks Other::event []",
		`site.blocks Site::odd ["a\tb` + "\ufffd" + `",[["x",["53/udp",null]]],0.005]`,
		"zeek.cluster.node.worker-1. Site::to_node []"}
	if got := strings.Join(events, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("%s\nwant\n%s", got, strings.Join(want, "\n"))
	}

	ready(t, node)
	if err := node.Publish(t.Context(), "site.x", "Site::mine", uint64(7)); err != nil {
		t.Fatal(err)
	}
	if got := named.lines(1)[0]; !strings.HasSuffix(got, " worker-1 site.x Site::mine(7)") {
		t.Errorf("%q", got)
	}
	lines.Terminate()
}

// ready waits until a node knows what is subscribed at the broker.
func ready(t *testing.T, n *cluster.Node) {
	t.Helper()
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// "publish" says when nobody can have received the event.
func TestPublishToNobody(t *testing.T) {
	t.Parallel()
	broker := startDaemon(t, "forwarder")
	p := start(t, nil, append([]string{"publish", "Site::x", "--topic", "nobody."},
		brokerFlags(broker)...)...)
	if status := p.Wait(); status != 1 || !strings.Contains(p.Stderr.String(),
		"zmtpd: nobody receives the event: no node has subscribed nobody.") {
		t.Errorf("exit status %d: %s", status, p.Stderr.String())
	}
}

// The types of the arguments are those that Zeek sees: a node gets them, and refuses others.
func TestPublishTypes(t *testing.T) {
	t.Parallel()
	broker := startDaemon(t, "forwarder")
	node := joinCluster(t, broker, "worker-1", zmtp.Config{})
	ready(t, node)
	for _, arg := range []string{"count:5", "int:5"} {
		runTool(t, nil, append([]string{"publish", "Site::n", arg, "--node", "worker-1"},
			brokerFlags(broker)...)...)
	}
	testkit.Eventually(t, "both arrive", func() bool { return node.Stats().Unhandled == 2 })
}

func TestNodes(t *testing.T) {
	t.Parallel()
	broker := startDaemon(t, "forwarder")
	layout := filepath.Join(t.TempDir(), "cluster-layout.zeek")
	writeFile(t, layout, layoutScript)
	following := follow(t, broker, "nodes", "--follow", "--format", "json")
	manager := joinCluster(t, broker, "manager", zmtp.Config{})
	worker := joinCluster(t, broker, "worker-1", zmtp.Config{})
	awaitPeers(t, worker, "manager")
	nodes := func(args ...string) string {
		return strings.Join(strings.Fields(runTool(t, nil,
			append(append([]string{"nodes"}, args...), brokerFlags(broker)...)...)), " ")
	}
	if got, want := nodes(), "up manager "+manager.Self().ID+" up worker-1 "+
		worker.Self().ID; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := nodes("--layout", layout), "down logger-1 logger up manager manager "+
		manager.Self().ID+" up worker-1 worker "+worker.Self().ID; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	writeFile(t, layout, strings.ReplaceAll(layoutScript, "worker-1", "worker-2"))
	if got, want := nodes("--layout", layout), "down logger-1 logger up manager manager "+
		manager.Self().ID+" up worker-1 - "+worker.Self().ID+" down worker-2 worker"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	worker.Shutdown(t.Context())
	var last nodeLine
	if err := json.Unmarshal([]byte(following.lines(3)[2]), &last); err != nil {
		t.Fatal(err)
	}
	if last.State != "down" || last.Name != "worker-1" || last.Cause != "unsubscribed" {
		t.Errorf("%+v", last)
	}
	following.Terminate()
}

// The tools leave no goroutine behind when they are stopped, with or without a broker.
func TestClusterToolsLeaveNothingBehind(t *testing.T) {
	nowhere := "ipc://" + filepath.Join(t.TempDir(), "nowhere")
	for _, args := range [][]string{{"events"}, {"nodes", "--follow"}, {"nodes"},
		{"publish", "Site::x", "--topic", "x"}} {
		before := goleak.IgnoreCurrent()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var stdout, stderr testkit.Output
		done := make(chan error, 1)
		args = append(args, "--xsub", nowhere, "--xpub", nowhere)
		go func() { done <- run(ctx, args, nil, &stdout, &stderr) }()
		testkit.Eventually(t, "the tool says that it is not connected",
			func() bool { return strings.Contains(stderr.String(), "cannot connect") })
		cancel()
		err := <-done
		if published := args[0] == "publish"; (err != nil) != published || published &&
			err.Error() != "stopped before the event was published" {
			t.Errorf("%s: %v", args[0], err)
		}
		goleak.VerifyNone(t, before)
	}
}
