package cluster_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/capture"
	"zmtpd/capture/cluster"
	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
)

// analyze returns what is in a capture.
func analyze(t *testing.T, name string) (cluster.Summary, map[cluster.Kind]int) {
	t.Helper()
	b, err := os.ReadFile("../testdata/" + name + ".pcap.gz")
	if err != nil {
		t.Fatal(err)
	}
	r, err := capture.NewReader(bytes.NewReader(b), capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, kinds := cluster.New(cluster.Options{}), map[cluster.Kind]int{}
	for ev, err := range r.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		item := a.Observe(&ev)
		kinds[item.Kind]++
		if item.Kind == cluster.Malformed {
			t.Errorf("%v", item.Err)
		}
	}
	return a.Summary(), kinds
}

// The hellos and ends of nodes in a capture are those of the cluster.log that its logger wrote, and
// at the same times.
func TestMembership(t *testing.T) {
	text, err := os.ReadFile("../testdata/cluster.logs/cluster.log")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	written := map[string]time.Time{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(strings.TrimSpace(line), "\t"); line[0] != '#' {
			var seconds float64
			if _, err := fmt.Sscan(fields[0], &seconds); err != nil {
				t.Fatal(err)
			}
			key := fields[1] + " " + fields[2]
			want, written[key] = append(want, key), time.UnixMicro(int64(seconds*1e6))
		}
	}
	sum, _ := analyze(t, "cluster")
	for _, m := range sum.Membership {
		key := fmt.Sprintf("%s got hello from %s (%s)", m.Node, m.Of, m.OfID)
		if m.Down {
			key = fmt.Sprintf("%s node down: %s", m.Node, m.Of)
		}
		got = append(got, key)
		if at, ok := written[key]; ok && m.Time.Sub(at).Abs() > time.Second {
			t.Errorf("%s: at %v, want %v", key, m.Time, at)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("not found: %s", line)
		}
	}
	// Worker-2 ended before it wrote the one; nobody was left to write the other.
	unwritten := []string{
		"worker-2 got hello from manager (zeromq_manager_vm_28529_NlBeUp4BXnp6YyE9t4)",
		"manager node down: logger",
	}
	got = slices.DeleteFunc(got, func(line string) bool { return slices.Contains(want, line) })
	if !slices.Equal(got, unwritten) {
		t.Errorf("found, but not written: %q", got)
	}
}

func find(t *testing.T, list []cluster.Named, name string) cluster.Counts {
	t.Helper()
	for _, n := range list {
		if n.Name == name {
			return n.Counts
		}
	}
	t.Errorf("no %s", name)
	return cluster.Counts{}
}

func TestSummary(t *testing.T) {
	sum, kinds := analyze(t, "cluster")
	want := map[cluster.Kind]int{cluster.None: 84, cluster.Log: 30, cluster.Event: 72,
		cluster.Subscribe: 150, cluster.Unsubscribe: 36}
	if !maps.Equal(kinds, want) {
		t.Errorf("%v, want %v", kinds, want)
	}
	if c := find(t, sum.Logs, "loaded_scripts"); c.Records != 2162 || c.Messages != 4 ||
		c.Gap.Round(time.Second) != 3*time.Second {
		t.Errorf("%+v", c)
	}
	if c := find(t, sum.Events, "Cluster::hello"); c.Messages != 17 {
		t.Errorf("%+v", c)
	}
	if c := find(t, sum.Topics, "zeek.cluster.node.worker-1."); c.Messages != 1 {
		t.Errorf("%+v", c)
	}
	if c := find(t, sum.Nodes, "zeromq_worker-1_vm_28720_NbRiDs1GeihlpLqMr"); c.Records != 551 {
		t.Errorf("%+v", c)
	}
	// Every event that went into the broker came out, soon.
	if len(sum.Brokers) != 1 {
		t.Fatalf("%+v", sum.Brokers)
	}
	if b := sum.Brokers[0]; b.In != 36 || b.Out != 36 || b.Unknown != 0 || b.Lost != 0 ||
		b.P50 <= 0 || b.Max > 10*time.Millisecond {
		t.Errorf("%+v", b)
	}
	if len(sum.Sessions) != 14 {
		t.Errorf("%d sessions", len(sum.Sessions))
	}
	for _, s := range sum.Sessions {
		if s.Node == "" || s.FromClient.Retransmitted+s.FromServer.ZeroWindows > 0 || s.Lost > 0 {
			t.Errorf("%+v", s)
		}
	}
}

// What does not come out of the broker is lost, for the subscriber that should have got it.
func TestLost(t *testing.T) {
	b, err := os.ReadFile("../testdata/cluster.pcap.gz")
	if err != nil {
		t.Fatal(err)
	}
	r, err := capture.NewReader(bytes.NewReader(b), capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, dropped, victim := cluster.New(cluster.Options{}), uint64(0), uint64(0)
	for ev, err := range r.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		// One node gets nothing of what comes out from some time on.
		if ev.Session.Server.Port() == 15555 && ev.From == capture.Server &&
			ev.Kind == capture.Message && (victim == 0 || victim == ev.Session.ID) &&
			ev.Time.Second() >= 40 && ev.Session.ID < 10 { // it lives long
			victim = ev.Session.ID
			dropped++
			continue
		}
		a.Observe(&ev)
	}
	sum := a.Summary()
	if b := sum.Brokers[0]; dropped == 0 || b.Lost != dropped {
		t.Errorf("%d were dropped: %+v", dropped, b)
	}
	for _, s := range sum.Sessions {
		if (s.Lost > 0) != (s.ID == victim) {
			t.Errorf("session %d lost %d, %d was dropped from", s.ID, s.Lost, victim)
		}
	}
}

// Events in JSON are the same events as those in the binary format.
func TestJSON(t *testing.T) {
	b, err := os.ReadFile("../testdata/cluster.pcap.gz")
	if err != nil {
		t.Fatal(err)
	}
	r, err := capture.NewReader(bytes.NewReader(b), capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	binary, json, n := cluster.New(cluster.Options{}), cluster.New(cluster.Options{}), 0
	for ev, err := range r.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		want := binary.Observe(&ev)
		if want.Kind == cluster.Event {
			raw, err := event.Parse(ev.Message.Part(3))
			if err != nil {
				t.Fatal(err)
			}
			ev.Message = zmtp.NewMessage(ev.Message.Part(0), ev.Message.Part(1),
				[]byte(event.JSONName), event.AppendJSON(nil, raw))
			n++
		}
		got := json.Observe(&ev)
		if got.Kind != want.Kind || string(got.Topic) != string(want.Topic) ||
			string(got.Event.Name) != string(want.Event.Name) ||
			!bytes.Equal(got.Event.Args, want.Event.Args) {
			t.Fatalf("%v %s %v, want %v %s", got.Kind, got.Event.Name, got.Err, want.Kind,
				want.Event.Name)
		}
	}
	got, want := json.Summary(), binary.Summary()
	if n == 0 || len(got.Membership) != len(want.Membership) || got.Brokers[0].Lost > 0 ||
		got.Brokers[0].Out != want.Brokers[0].Out {
		t.Errorf("%d events: %+v, want %+v", n, got.Brokers, want.Brokers)
	}
}

// However many subscriptions a capture has, and however long their topics are, few are kept.
func TestBounded(t *testing.T) {
	a := cluster.New(cluster.Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for id := range uint64(100) {
		ev := capture.Event{Kind: capture.Command, From: capture.Client, Name: "SUBSCRIBE",
			Session: &capture.Session{ID: id}}
		for i := range 3000 {
			ev.Data = fmt.Appendf(nil, "%0100d", i)
			a.Observe(&ev)
		}
		ev.Data = make([]byte, 1<<20)
		a.Observe(&ev)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 48<<20 {
		t.Errorf("%d bytes are kept", grown)
	}
	runtime.KeepAlive(a)
}
