package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

var seriesLine = regexp.MustCompile(`^(\w+)\{(.*)\} (\S+)$`)
var labelPair = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)

// series returns the series of a metric: their labels, and the value under "".
func (p *process) series(metric string) (all []map[string]string) {
	p.t.Helper()
	_, body := p.Get("/metrics")
	for line := range strings.Lines(body) {
		m := seriesLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || m[1] != metric {
			continue
		}
		labels := map[string]string{"": m[3]}
		for _, l := range labelPair.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		all = append(all, labels)
	}
	return all
}

func value(t testing.TB, series map[string]string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(series[""], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Of 40 subscribers with queues of different lengths, and some that are not slow, the metrics have
// the 32 slowest with their losses by reason. The number of topic classes is bounded, and together
// they count every message.
func TestSlowestSubscribersAndTopicsInMetrics(t *testing.T) {
	t.Parallel()
	const slow, hwm = 40, 20
	d := startDaemon(t, "forwarder", "--xsub", anyPort, "--xpub", anyPort, "--overload", "drop",
		"--sndhwm", fmt.Sprint(hwm))
	node := func(i int) string { return fmt.Sprintf("n%02d", i) }
	topic := func(i int) string { return fmt.Sprintf("s%02d.", i) }
	for i := range slow {
		stuckSubscriber(t, d.Endpoint("XPUB"), topic(i), "zeek.cluster.nodeid."+node(i)+".")
	}
	for range 3 {
		subscribe(t, d.Endpoint("XPUB"), "many.")
	}
	testkit.Eventually(t, "the subscriptions",
		func() bool { return d.status().Forwarder.Topics == 2*slow+1 })
	pub := publisher(t, d, 2*slow+1)

	// Full queues hold this many messages. Each subscriber gets messages of another size. All are
	// large, so that the kernel's buffers fill up soon and stay full.
	sent := 0
	bodies := make([]string, slow)
	for i := range bodies {
		bodies[i] = strings.Repeat("x", 20_000+1000*i)
	}
	testkit.Eventually(t, "all of them to be stuck", func() bool {
		for i := range slow {
			for range 10 {
				publish(t, pub, topic(i), bodies[i])
				sent++
			}
		}
		full := 0
		for _, p := range d.status().Forwarder.XPub.Peers {
			if p.Dropped["full"] > 0 && p.Queue == hwm {
				full++
			}
		}
		return full == slow
	})
	testkit.Eventually(t, "the last message to be routed", func() bool {
		return d.Metric(`zmtpd_socket_received_messages_total{socket="xsub"}`) == float64(sent)
	})

	for _, metric := range []string{"queue_messages", "queue_bytes", "blocked_seconds"} {
		found := map[string]bool{}
		for _, s := range d.series("zmtpd_forwarder_slow_subscriber_" + metric) {
			if found[s["node"]] || len(s) != 4 || s["peer"] == "" || s["client"] != "" {
				t.Errorf("%s: labels %v", metric, s)
			}
			found[s["node"]] = true
			if metric == "queue_messages" && value(t, s) != hwm {
				t.Errorf("%s of %s: %v", metric, s["node"], s[""])
			}
		}
		for i := range slow {
			if slowest := i >= slow-maxSlowPeers; found[node(i)] != slowest {
				t.Errorf("%s: %s is among the series: %v", metric, node(i), found[node(i)])
			}
		}
		if len(found) != maxSlowPeers {
			t.Errorf("%s: %d subscribers", metric, len(found))
		}
	}
	byReason := map[string]int{}
	lost := map[string]float64{}
	for _, s := range d.series("zmtpd_forwarder_slow_subscriber_dropped_messages") {
		byReason[s["reason"]]++
		lost[s["node"]] += value(t, s)
		if v := value(t, s); (s["reason"] == "full") != (v > 0) {
			t.Errorf("%s lost %v for the reason %s", s["node"], v, s["reason"])
		}
	}
	if len(byReason) != len(lossReasons) || byReason["full"] != maxSlowPeers ||
		byReason["connection_lost"] != maxSlowPeers {
		t.Errorf("series by reason: %v", byReason)
	}

	// There are more topics than the limit on classes, and topics of node ids, which are one class.
	for i := range 300 {
		publish(t, pub, fmt.Sprintf("many.%d", i))
		publish(t, pub, "zeek.cluster.nodeid."+node(i%slow)+".")
		sent += 2
	}
	testkit.Eventually(t, "the last message to be routed", func() bool {
		return d.Metric(`zmtpd_socket_received_messages_total{socket="xsub"}`) == float64(sent)
	})
	total, classes := 0.0, map[string]float64{}
	for _, s := range d.series("zmtpd_forwarder_topic_messages_total") {
		classes[s["topic"]] = value(t, s)
		total += value(t, s)
	}
	if int(total) != sent || len(classes) > 256 || classes["other"] < 50 ||
		classes["zeek.cluster.nodeid.__normalized__"] != 300 || classes["many.0"] != 1 {
		t.Errorf("%v messages of %d in %d classes, other %v, of node ids %v", total, sent,
			len(classes), classes["other"], classes["zeek.cluster.nodeid.__normalized__"])
	}
	dropped := map[string]map[string]float64{}
	for _, s := range d.series("zmtpd_forwarder_topic_dropped_messages_total") {
		if dropped[s["topic"]] == nil {
			dropped[s["topic"]] = map[string]float64{}
		}
		dropped[s["topic"]][s["reason"]] = value(t, s)
	}
	for i := slow - maxSlowPeers; i < slow; i++ {
		if n := dropped[topic(i)]; n["full"] != lost[node(i)] || n["connection_lost"] != 0 ||
			len(n) != len(lossReasons) {
			t.Errorf("of topic %s %v were lost, of its subscriber %v", topic(i), n, lost[node(i)])
		}
	}
	if s := d.status().Forwarder; s.ByTopic[topic(slow-1)].Dropped["full"] == 0 ||
		s.XPub.Peers[0].Node != node(slow-1) {
		t.Errorf("status: %v, slowest %v", s.ByTopic[topic(slow-1)], s.XPub.Peers[0].Node)
	}
}
