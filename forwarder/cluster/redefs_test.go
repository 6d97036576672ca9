package cluster

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseRedefs(t *testing.T) {
	all, err := ParseRedefs(strings.NewReader(`
@load frameworks/cluster/backend/zeromq
# redef Cluster::Backend::ZeroMQ::run_proxy_thread = T;
redef Cluster::Backend::ZeroMQ::run_proxy_thread = F;
redef Cluster::Backend::ZeroMQ::connect_xpub_endpoint = "tcp://127.0.0.1:5556";
redef Cluster::Backend::ZeroMQ::connect_log_endpoints += vector("tcp://a:1", "tcp://[::1]:2");
redef Cluster::Backend::ZeroMQ::connect_log_endpoints += { "tcp://b:3" };
redef Cluster::retry_interval = 1min;
redef Cluster::Backend::ZeroMQ::linger_ms`), "Cluster::Backend::ZeroMQ")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"run_proxy_thread":      "F",
		"connect_xpub_endpoint": "tcp://127.0.0.1:5556",
		"connect_log_endpoints": "tcp://a:1 tcp://[::1]:2 tcp://b:3",
	} {
		if got := strings.Join(all[name].Values, " "); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if len(all) != 3 || all["run_proxy_thread"].Line != 4 {
		t.Errorf("redefs %+v", all)
	}
}

func TestLayoutAddresses(t *testing.T) {
	l, err := ParseLayout(strings.NewReader(`redef Cluster::nodes = {
	["manager"] = [$node_type=Cluster::MANAGER, $ip=10.0.0.1, $p=27763/tcp, $metrics_port=9991/tcp],
	["logger-1"] = [$node_type=Cluster::LOGGER, $ip=[fe80::1], $p=27764/tcp],
	["worker-1"] = [$node_type=Cluster::WORKER, $ip=10.0.0.2, $interface="eth0"],
};`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"manager": "10.0.0.1:27763",
		"logger-1": "[fe80::1]:27764", "worker-1": "10.0.0.2:0"} {
		if got := l.Addresses[name]; got != netip.MustParseAddrPort(want) {
			t.Errorf("%s listens at %v, want %s", name, got, want)
		}
	}
	want := []string{"node_type", "ip", "p", "metrics_port", "interface"}
	if !slices.Equal(l.Fields, want) {
		t.Errorf("fields %q", l.Fields)
	}
}
