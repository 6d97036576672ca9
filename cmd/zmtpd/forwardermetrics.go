package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder"
	"zmtpd/zmtp"
)

// The metrics of the broker.
var (
	forwarderTopics = daemon.Gauge("zmtpd_forwarder_topics",
		"Distinct topics subscribed.")
	forwarderSubscriptions = daemon.Gauge("zmtpd_forwarder_subscriptions",
		"Topics subscribed, counted for each subscriber.")
	forwarderSlow = daemon.Gauge("zmtpd_forwarder_slow_subscribers",
		"Subscribers that the overload policy treats as slow.")
	forwarderUnmatched = daemon.Counter("zmtpd_forwarder_unmatched_messages_total",
		"Messages without a subscriber.")
)

// proxyMetrics are the metrics of the broker inside a Zeek manager, with Zeek's names. As there,
// they count message parts (ZeroMQ-Proxy.cc).
var proxyMetrics = []struct {
	messages, bytes daemon.Metric
	of              func(*forwarder.Stats) zmtp.Traffic
}{
	proxyMetric("frontend", "received", "from publishers",
		func(s *forwarder.Stats) zmtp.Traffic { return s.Frontend.In }),
	proxyMetric("frontend", "sent", "to publishers",
		func(s *forwarder.Stats) zmtp.Traffic { return s.Frontend.Out }),
	proxyMetric("backend", "received", "from subscribers",
		func(s *forwarder.Stats) zmtp.Traffic { return s.Backend.In }),
	proxyMetric("backend", "sent", "to subscribers",
		func(s *forwarder.Stats) zmtp.Traffic { return s.Backend.Out }),
}

func proxyMetric(side, direction, whom string, of func(*forwarder.Stats) zmtp.Traffic) (m struct {
	messages, bytes daemon.Metric
	of              func(*forwarder.Stats) zmtp.Traffic
}) {
	prefix := "zeek_cluster_zeromq_proxy_" + side
	m.messages = daemon.Counter(prefix+"_messages_"+direction+"_total",
		"Message parts "+direction+" "+whom+", counted as in Zeek.")
	m.bytes = daemon.Counter(prefix+"_bytes_"+direction+"_total",
		"Bytes of message parts "+direction+" "+whom+", counted as in Zeek.")
	m.of = of
	return m
}

// collectForwarder sends the metrics of the broker.
func collectForwarder(ch chan<- prometheus.Metric, st forwarder.Stats) {
	publishers, subscribers := peersOfSides(st)
	daemon.CollectSocket(ch, "xsub", st.XSub, publishers)
	subscriptions, slow := 0, 0
	for _, s := range st.Subscribers {
		subscriptions += s.Topics
		if !s.SlowSince.IsZero() {
			slow++
		}
	}
	daemon.CollectSocket(ch, "xpub", st.XPub, subscribers)
	daemon.Send(ch, forwarderTopics, st.Topics)
	daemon.Send(ch, forwarderSubscriptions, subscriptions)
	daemon.Send(ch, forwarderSlow, slow)
	daemon.Send(ch, forwarderUnmatched, st.Received.Unmatched)
	collectTopics(ch, st.ByTopic)
	collectSlow(ch, st.Subscribers)
	for _, m := range proxyMetrics {
		t := m.of(&st)
		daemon.Send(ch, m.messages, t.Parts)
		daemon.Send(ch, m.bytes, t.Bytes)
	}
}

var clientDenied = daemon.Counter("zmtpd_client_denied_total",
	"Messages and subscriptions for which a client has no permission.", "client", "action")

// collectDenied sends the messages and subscriptions that were denied, by client.
func collectDenied(ch chan<- prometheus.Metric, access *daemon.Access,
	all map[string]forwarder.Denied) {
	counts := map[string]forwarder.Denied{}
	for user, d := range all {
		label := access.ClientLabel(user)
		c := counts[label]
		counts[label] = forwarder.Denied{Messages: c.Messages + d.Messages,
			Subscriptions: c.Subscriptions + d.Subscriptions}
	}
	for client, d := range counts {
		daemon.Send(ch, clientDenied, d.Messages, client, "publish")
		daemon.Send(ch, clientDenied, d.Subscriptions, client, "subscribe")
	}
}
