package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/rest"
)

// The metrics of the stores.
var (
	storeKeys     = daemon.Gauge("zmtpd_store_keys", "Entries of a store.", "store")
	storeBytes    = daemon.Gauge("zmtpd_store_bytes", "Memory of a store's entries.", "store")
	storeExpiring = daemon.Gauge("zmtpd_store_expiring_keys", "Entries with an expiry.", "store")
	storeSeq      = daemon.Gauge("zmtpd_store_sequence", "Number of a store's last change.", "store")
	storePending  = daemon.Gauge("zmtpd_store_pending_bytes",
		"Changes of a store that wait for its file.", "store")
	storeFailing = daemon.Gauge("zmtpd_store_failing",
		"1 if the file of a store did not take the last changes.", "store")
	storeReads   = daemon.Counter("zmtpd_store_reads_total", "Reads of a store.", "store")
	storeOps     = daemon.Counter("zmtpd_store_operations_total", "Changes by operation.", "store", "operation")
	storeExpired = daemon.Counter("zmtpd_store_expired_total", "Entries that have expired.", "store")
	storeWrites  = daemon.Counter("zmtpd_store_writes_total",
		"Writes, each with all its changes, that were answered.", "store")
	storeWriteTime = daemon.Counter("zmtpd_store_write_seconds_total",
		"Time that writes took until they were answered.", "store")
	storeCommits = daemon.Counter("zmtpd_store_commits_total",
		"Transactions of a store's file; with --store-sync always each waits for the disk.", "store")
	storeCommitTime = daemon.Counter("zmtpd_store_commit_seconds_total",
		"Time that the transactions of a store's file took.", "store")
	storeHTTPRequests = daemon.Counter("zmtpd_store_http_requests_total",
		"Requests for stores over HTTP, by result.", "result")
	storeHTTPWatches = daemon.Gauge("zmtpd_store_http_watches", "Watches of stores over HTTP.")
)

// Collect implements [daemon.Job].
func (j *storeJob) Collect(ch chan<- prometheus.Metric) {
	for i, s := range j.own {
		st, name := s.Stats(), s.Name()
		daemon.Send(ch, storeKeys, st.Keys, name)
		daemon.Send(ch, storeBytes, st.Bytes, name)
		daemon.Send(ch, storeExpiring, st.Expiring, name)
		daemon.Send(ch, storeSeq, st.Seq, name)
		daemon.Send(ch, storePending, st.Pending, name)
		failing := 0
		if st.Failure != nil {
			failing = 1
		}
		daemon.Send(ch, storeFailing, failing, name)
		daemon.Send(ch, storeReads, st.Reads, name)
		for op, n := range st.Ops {
			daemon.Send(ch, storeOps, n, name, store.Op(op).String())
		}
		daemon.Send(ch, storeExpired, st.Expired, name)
		daemon.Send(ch, storeWrites, st.Writes.Count, name)
		daemon.Send(ch, storeWriteTime, st.Writes.Total.Seconds(), name)
		daemon.Send(ch, storeCommits, st.Commits.Count, name)
		daemon.Send(ch, storeCommitTime, st.Commits.Total.Seconds(), name)
		if j.buckets != nil {
			collectNATS(ch, name, j.buckets[i])
		}
	}
	j.share.collect(ch)
	web := j.http.Stats()
	for result, n := range web.Requests {
		daemon.Send(ch, storeHTTPRequests, n, rest.Result(result).String())
	}
	daemon.Send(ch, storeHTTPWatches, web.Watches)
	j.redis.collect(ch)
}

// storeStatus is the part of /status about a store.
type storeStatus struct {
	Name       string            `json:"name"`
	Keys       int               `json:"keys"`
	Bytes      int64             `json:"bytes"`
	Expiring   int               `json:"expiring"`
	Seq        uint64            `json:"sequence"`
	Pending    int64             `json:"pending_bytes"`
	Failure    string            `json:"failure,omitempty"`
	Reads      uint64            `json:"reads"`
	Operations map[string]uint64 `json:"operations"`
	Expired    uint64            `json:"expired"`
	Writes     timingStatus      `json:"writes"`
	Commits    timingStatus      `json:"commits"`
	NATS       *natsStatus       `json:"nats,omitempty"`
	Clones     int               `json:"clones"` // that were heard of within 5 s
	Behind     uint64            `json:"clones_behind"`
}

type timingStatus struct {
	Count   uint64  `json:"count"`
	Seconds float64 `json:"seconds"`
	Max     float64 `json:"max_seconds"`
}

func newTimingStatus(t store.Timing) timingStatus {
	return timingStatus{t.Count, t.Total.Seconds(), t.Max.Seconds()}
}

// Status implements [daemon.Job].
func (j *storeJob) Status() any {
	all := []storeStatus{}
	for i, s := range j.own {
		st := s.Stats()
		out := storeStatus{Name: s.Name(), Keys: st.Keys, Bytes: st.Bytes, Expiring: st.Expiring,
			Seq: st.Seq, Pending: st.Pending, Reads: st.Reads, Expired: st.Expired,
			Operations: map[string]uint64{}, Writes: newTimingStatus(st.Writes),
			Commits: newTimingStatus(st.Commits)}
		followers := j.share.followers(s.Name())
		out.Clones, out.Behind = followers.Clones, followers.Behind
		if st.Failure != nil {
			out.Failure = st.Failure.Error()
		}
		for op, n := range st.Ops {
			out.Operations[store.Op(op).String()] = n
		}
		if j.buckets != nil {
			nats := natsStatus(j.buckets[i].Stats())
			out.NATS = &nats
		}
		all = append(all, out)
	}
	web := j.http.Stats()
	results := map[string]uint64{}
	for result, n := range web.Requests {
		results[rest.Result(result).String()] = n
	}
	return map[string]any{"stores": all, "clones": j.share.status(),
		"http":  map[string]any{"requests": results, "watches": web.Watches},
		"redis": j.redis.status()}
}
