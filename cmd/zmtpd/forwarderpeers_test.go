package main

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder"
	"zmtpd/zmtp"
)

func TestSlowestFirst(t *testing.T) {
	peer := func(id uint64, queued int64, blocked time.Duration,
		stalled bool) forwarder.SubscriberStats {
		s := forwarder.SubscriberStats{Blocked: blocked}
		s.ID, s.QueuedBytes = id, queued
		if stalled {
			s.SlowSince = time.Unix(1, 0)
		}
		return s
	}
	all := []forwarder.SubscriberStats{
		peer(1, 0, 0, false), peer(2, 10, 0, false), peer(3, 0, time.Second, false),
		peer(4, 5, 0, true), peer(5, 20, 0, false), peer(6, 0, 0, false),
	}
	slices.SortFunc(all, slowestFirst)
	var got []uint64
	for _, s := range all {
		got = append(got, s.ID)
	}
	if want := []uint64{4, 5, 2, 3, 1, 6}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// The number of series is bounded, however many peers there are and whatever their names.
func TestSlowPeersAreBounded(t *testing.T) {
	var all []forwarder.SubscriberStats
	for i := range 1000 {
		s := forwarder.SubscriberStats{NodeID: "\xff"}
		s.ID, s.Queued, s.QueuedBytes = uint64(i), i%2, int64(i%2)
		all = append(all, s)
	}
	ch := make(chan prometheus.Metric, 10_000)
	collectSlow(ch, all)
	if n := len(ch); n != (3+len(lossReasons))*maxSlowPeers {
		t.Errorf("%d series, want %d", n, (3+len(lossReasons))*maxSlowPeers)
	}
	ch = make(chan prometheus.Metric, 10_000)
	collectSlow(ch, make([]forwarder.SubscriberStats, 10))
	if n := len(ch); n != 0 {
		t.Errorf("%d series of peers that are not slow", n)
	}
}

func TestRates(t *testing.T) {
	var m rateMeter
	start := time.Unix(1000, 0)
	key := peerKey{"xsub", 1}
	at := func(s float64, messages uint64) daemon.Rate {
		t.Helper()
		p := zmtp.PeerStats{Since: start,
			In: zmtp.Traffic{Messages: messages, Bytes: 10 * messages}}
		return m.measure(start.Add(time.Duration(s*float64(time.Second))),
			map[peerKey]zmtp.PeerStats{key: p})[key][0]
	}
	for _, c := range []struct {
		at       float64
		messages uint64
		want     float64
	}{
		{2, 100, 50}, // of its whole life
		{4, 500, 200},
		{4.5, 9000, 200}, // too soon for another
		{6, 500, 0},
		{7, 501, 1},
	} {
		if got := at(c.at, c.messages); got != (daemon.Rate{Messages: c.want, Bytes: 10 * c.want}) {
			t.Errorf("after %v s: %+v, want %v", c.at, got, c.want)
		}
	}
}
