package cluster

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// What Zeek's own test prints for its sites: testing/btest/scripts/base/utils/hash_hrw.zeek and its
// baseline.
func TestHeaviestSiteAsInZeek(t *testing.T) {
	keys := []any{"one", "two", "three", "four", "four", "five", "six", uint64(1), uint64(2),
		uint64(3)}
	all := []site{{"alice", 0}, {"bob", 1}, {"dave", 3}, {"eve", 4}}
	for _, test := range []struct {
		sites []site
		want  string
	}{
		{all, "alice dave bob bob bob dave dave bob alice bob"},
		{all[1:], "bob dave bob bob bob dave dave bob eve bob"},
	} {
		var got []string
		for _, key := range keys {
			digest, err := digestOf(key)
			if err != nil {
				t.Fatal(err)
			}
			s, _ := heaviest(test.sites, digest, func(site) bool { return true })
			got = append(got, s.name)
		}
		if text := strings.Join(got, " "); text != test.want {
			t.Errorf("of %v: %s, want %s", test.sites, text, test.want)
		}
	}
}

// up makes a node that never connects, with some peers up.
func up(t *testing.T, name string, layout *Layout, peers ...string) *Node {
	t.Helper()
	n, err := Join(Config{Name: name, Layout: layout, XSub: "ipc:///nobody/xsub",
		XPub: "ipc:///nobody/xpub"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Shutdown(t.Context()) })
	n.update(func(m *membership, now time.Time) {
		for _, p := range peers {
			m.up(p, "zeromq_"+p+"_host_1_N", now)
		}
	})
	return n
}

// What Zeek's own tests print for pools of a cluster:
// testing/btest/cluster/generic/publish-hrw.zeek and publish-rr.zeek, and
// scripts/base/frameworks/cluster/custom_pool_limits.zeek with counts as keys, and their baselines.
func TestPoolsAsInZeek(t *testing.T) {
	layout := &Layout{Nodes: map[string]NodeType{"manager": Manager, "worker-1": Worker,
		"worker-2": Worker, "proxy-1": Proxy, "proxy-2": Proxy}}
	n := up(t, "manager", layout, "worker-1", "worker-2", "proxy-1", "proxy-2")
	workers, proxies := n.Pool(Worker), n.Pool(Proxy)
	var got, turns, counts string
	for i := range 10 {
		name, err := workers.Rendezvous(fmt.Sprint(i))
		turn, err2 := workers.RoundRobin("ping-key-args")
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		got += strings.TrimPrefix(name, "worker-")
		turns += strings.TrimPrefix(turn, "worker-")
	}
	for _, k := range []uint64{0, 1, 2, 3, 13, 37, 42, 101} {
		name, err := proxies.Rendezvous(k)
		if err != nil {
			t.Fatal(err)
		}
		counts += strings.TrimPrefix(name, "proxy-")
	}
	if got != "2121121211" || turns != "1212121212" || counts != "21221111" {
		t.Errorf("worker of each key %s, of each turn %s, proxy of each count %s", got, turns,
			counts)
	}

	// A node that is down is passed over.
	n.update(func(m *membership, _ time.Time) {
		m.unsubscribed("zeromq_proxy-1_host_1_N", false, time.Now())
	})
	for range 3 {
		name, err := proxies.Rendezvous(uint64(1))
		turn, err2 := proxies.RoundRobin("")
		if name != "proxy-2" || turn != "proxy-2" || err != nil || err2 != nil {
			t.Errorf("%q, %v and %q, %v", name, err, turn, err2)
		}
	}
}

func TestPoolsWithoutNodes(t *testing.T) {
	layout := &Layout{ManagerIsLogger: true, Nodes: map[string]NodeType{"manager": Manager,
		"logger-1": Logger}}
	n := up(t, "manager", layout)
	if _, err := n.Pool(Worker).RoundRobin(""); !errors.Is(err, ErrNoNode) {
		t.Error(err)
	}
	err := n.Pool(Logger).PublishRendezvous(t.Context(), netip.MustParseAddr("::1"), "e")
	if !errors.Is(err, ErrNoNode) {
		t.Error(err)
	}
	// This node itself takes a turn, as in Zeek.
	if name, err := n.Pool(Logger).RoundRobin(""); name != "manager" || err != nil {
		t.Error(name, err)
	}
	if _, err := n.Pool(Logger).Rendezvous(1); err == nil {
		t.Error("an int is taken as a key")
	}
}

func TestSitesWithTheSameID(t *testing.T) {
	// Zeek counts the alias up until the id is new (pools.zeek, init_pool_node).
	sites := newSites([]string{"a", "a"})
	if sites[0].id != fnv1a([]byte("a.0")) || sites[1].id != fnv1a([]byte("a.1")) {
		t.Errorf("%v", sites)
	}
}

// The forms are those of zeek_inet_ntop.c.
func TestAddressesInKeys(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "::ffff:10.0.0.1": "10.0.0.1", "::1": "::1", "::1:2": "::0.1.0.2",
		"::1:0": "::0.1.0.0", "::ffff:0:102:304": "::ffff:0:1.2.3.4", "::": "::",
		"2001:db8::1": "2001:db8::1", "::1:0:2": "::1:0:2",
	} {
		if got := addrText(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestParseLayout(t *testing.T) {
	l, err := ParseLayout(strings.NewReader(`
# redef Cluster::nodes = { ["no"] = [$node_type=Cluster::WORKER] };
redef Cluster::manager_is_logger = F;
redef Cluster::nodes = {
	["control"] = [$node_type=Cluster::CONTROL, $ip=127.0.0.1, $p=27762/tcp],
	["manager"] = [$ip=[fe80::1], $p=27763/tcp, $node_type = Cluster::MANAGER],
	["logger-1"] = Cluster::Node($node_type=Cluster::LOGGER, $ip=127.0.0.1),
};
redef Cluster::nodes += { ["worker-1"] = [$node_type=Cluster::WORKER, $manager="manager"] };
event zeek_init() { print Cluster::nodes; }
`))
	want := map[string]NodeType{"control": Control, "manager": Manager, "logger-1": Logger,
		"worker-1": Worker}
	if err != nil || !maps.Equal(l.Nodes, want) || l.ManagerIsLogger {
		t.Errorf("%v, %v", l, err)
	}
	if names := l.Names(Worker); !slices.Equal(names, []string{"worker-1"}) {
		t.Errorf("workers %q", names)
	}
	for text, fault := range map[string]string{
		"": "no nodes",
		`redef Cluster::nodes = { ["a"] = [$node_type=Cluster::BOSS] };`: `"Cluster::BOSS"`,
		"redef Cluster::nodes = {\n [\"a\"] = [$node_type=":              "line 2: ",
		`redef Cluster::nodes = { ["a"] = [[[[ `:                         "does not end",
		`redef Cluster::nodes = { a };`:                                  `needs "["`,
		`redef Cluster::nodes = { ["` + strings.Repeat("a", 300):         "no name",
		`redef Cluster::nodes = `:                                        "needs",
		`redef Cluster::nodes = { ["a" `:                                 "needs",
		strings.Repeat(" ", maxLayoutSize+1):                             "bytes",
	} {
		if _, err := ParseLayout(strings.NewReader(text)); err == nil ||
			!strings.Contains(err.Error(), fault) {
			t.Errorf("%.60q: %v, want %q", text, err, fault)
		}
	}
}

func FuzzParseLayout(f *testing.F) {
	f.Add(`redef Cluster::nodes = { ["a"] = [$node_type=Cluster::WORKER, $ip=[::1]], };`)
	f.Add(`Cluster::nodes = table(["a\"`)
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := ParseLayout(strings.NewReader(text)); err == nil && len(l.Nodes) == 0 {
			t.Error("neither nodes nor an error")
		}
	})
}

func TestNameInID(t *testing.T) {
	for id, want := range map[string]string{
		"zeromq_worker-1_sensor7_4711_NfzaVa4ZA3BAmvqPx9": "worker-1",

		"zeromq_a_b_host_1_N": "a_b",
		"zeromq__h_1_N":       "",
		"zeromq_a_1_N":        "",
		"other":               "",
		"":                    "",
	} {
		if got := NameInID(id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}
