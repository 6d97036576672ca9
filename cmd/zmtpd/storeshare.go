package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/cluster"
	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/replica"
	"zmtpd/zmtp"
)

// storeShare shares the stores of a process over a broker, and follows those of others.
type storeShare struct {
	job    *storeJob
	broker *forwarderJob // of this process
	config cluster.Config
	off    bool // there is no broker, or one whose encryption the node could not pass

	mu      sync.Mutex
	node    *cluster.Node // nil until Connect
	masters []*replica.Master
	clones  []*replica.Clone
}

// The metrics of clones.
var (
	storeRequests = daemon.Counter("zmtpd_store_event_requests_total",
		"Requests for a store by events.", "store")
	storeSyncs = daemon.Counter("zmtpd_store_syncs_total",
		"Answers of a store to clones that lacked something.", "store")
	storeClones = daemon.Gauge("zmtpd_store_clones",
		"Clones of a store that were heard of within 5 s.", "store")
	storeClonesBehind = daemon.Gauge("zmtpd_store_clones_behind",
		"The most changes that a clone of a store lacked when it heard of its master.", "store")
	storeCloneBehind = daemon.Gauge("zmtpd_store_clone_behind",
		"Changes that a clone is known to lack.", "store")
	storeCloneStale = daemon.Gauge("zmtpd_store_clone_stale",
		"1 if a clone has not heard of its master for 5 s.", "store")
	storeCloneSnapshots = daemon.Counter("zmtpd_store_clone_snapshots_total",
		"Times that a clone got all entries.", "store")
)

func newStoreShare(j *storeJob, broker *forwarderJob) (*storeShare, error) {
	socket := j.env.Socket()
	socket.RetryAlways = true
	var err error
	if socket.Mechanism, err = j.flags.StoreKeys.Mechanism("store-"); err != nil {
		return nil, err
	}
	s := &storeShare{job: j, broker: broker}
	if broker == nil {
		if (j.flags.StoreXSub == "") != (j.flags.StoreXPub == "") {
			return nil, daemon.Usagef("--store-xsub and --store-xpub need each other: this process " +
				"has no broker; give both")
		}
		if s.off = j.flags.StoreXSub == ""; s.off && len(j.flags.StoreClone) > 0 {
			return nil, daemon.Usagef("--store-clone: this process has no broker; give --store-xsub " +
				"and --store-xpub")
		}
	}
	if broker != nil && !j.flags.StoreKeys.Encrypted() && j.flags.StoreXSub == "" &&
		j.env.Access.Keys() != nil {
		if len(j.flags.StoreClone) > 0 {
			return nil, daemon.Usagef("--store-clone: the broker is encrypted, and the stores have no " +
				"keys; give --store-curve-server-key and --store-curve-secret-key-file")
		}
		j.env.Log.Warn("the broker is encrypted, and the stores have no keys: they have no clones, and " +
			"scripts cannot reach them; give --store-curve-server-key and " +
			"--store-curve-secret-key-file")
		s.off = true
	}
	if broker != nil && j.flags.StoreKeys.PlainUsername == "" && j.flags.StoreXSub == "" &&
		j.env.Access.Users() != nil {
		if len(j.flags.StoreClone) > 0 {
			return nil, daemon.Usagef("--store-clone: the broker demands PLAIN, and the stores " +
				"have no user; give --store-plain-username and --store-plain-password-file")
		}
		j.env.Log.Warn("the broker demands PLAIN, and the stores have no user: they have no " +
			"clones, and scripts cannot reach them; give --store-plain-username and " +
			"--store-plain-password-file")
		s.off = true
	}
	s.config = cluster.Config{XSub: j.flags.StoreXSub, XPub: j.flags.StoreXPub, Socket: socket,
		Logger: j.env.Log}
	return s, nil
}

// targets returns the endpoints of another process to which connect connects.
func (s *storeShare) targets() (all []daemon.Target) {
	for flag, endpoint := range map[string]string{"--store-xsub": s.config.XSub,
		"--store-xpub": s.config.XPub} {
		if endpoint != "" {
			all = append(all, daemon.Target{Flag: flag, Endpoint: endpoint})
		}
	}
	return all
}

func (s *storeShare) connect() error {
	if s.off {
		return nil
	}
	if s.config.XSub == "" {
		s.config.XSub = loopback(s.broker.bound.xsub)
	}
	if s.config.XPub == "" {
		s.config.XPub = loopback(s.broker.bound.xpub)
	}
	node, err := cluster.Join(s.config)
	if errors.Is(err, zmtp.ErrEndpoint) {
		return daemon.Usagef("--store-xsub, --store-xpub: %w", err)
	} else if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node = node
	for _, st := range s.job.own {
		m, err := replica.NewMaster(replica.MasterConfig{Store: st, Bus: node,
			Who: processName(), Refused: s.job.env.Fail, Logger: s.job.env.Log})
		if err != nil {
			return err
		}
		s.masters = append(s.masters, m)
	}
	for _, name := range s.job.flags.StoreClone {
		c, err := replica.NewClone(replica.CloneConfig{Name: name, Bus: node,
			MaxBytes: int64(s.job.flags.StoreBytes), Memory: s.job.env.Memory, Logger: s.job.env.Log})
		if err != nil {
			return fmt.Errorf("--store-clone: %w", err)
		}
		s.clones = append(s.clones, c)
	}
	return nil
}

// copies returns the stores of the clones.
func (s *storeShare) copies() (all []*store.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clones {
		all = append(all, c.Store())
	}
	return all
}

// ready returns why a clone cannot be relied on.
func (s *storeShare) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clones {
		st := c.Status()
		if st.Stale && st.Heard.IsZero() {
			return fmt.Errorf("no master of the store %s was found; another zmtpd has to keep it with "+
				"--store, at the same broker", c.Store().Name())
		}
		if st.Stale {
			return fmt.Errorf("the clone of the store %s is stale: its master was last heard of at %v",
				c.Store().Name(), st.Heard)
		}
	}
	return nil
}

func (s *storeShare) shutdown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.masters {
		m.Close()
	}
	for _, c := range s.clones {
		c.Close()
	}
	if s.node == nil {
		return nil
	}
	if err := s.node.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (s *storeShare) collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.masters {
		st, name := m.Stats(), s.job.own[i].Name()
		daemon.Send(ch, storeRequests, st.Requests, name)
		daemon.Send(ch, storeSyncs, st.Syncs, name)
		daemon.Send(ch, storeClones, st.Clones, name)
		daemon.Send(ch, storeClonesBehind, st.Behind, name)
	}
	for _, c := range s.clones {
		st, name := c.Status(), c.Store().Name()
		stale := 0
		if st.Stale {
			stale = 1
		}
		daemon.Send(ch, storeCloneBehind, st.Behind, name)
		daemon.Send(ch, storeCloneStale, stale, name)
		daemon.Send(ch, storeCloneSnapshots, st.Snapshots, name)
	}
}

// cloneStatus is the part of /status about a clone.
type cloneStatus struct {
	Name      string `json:"name"`
	Keys      int    `json:"keys"`
	Seq       uint64 `json:"sequence"`
	Behind    uint64 `json:"behind"`
	Stale     bool   `json:"stale"`
	Master    string `json:"master,omitempty"`
	Snapshots uint64 `json:"snapshots"`
}

// followers returns the counters of the master of a store, zero without one.
func (s *storeShare) followers(name string) replica.MasterStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.masters {
		if s.job.own[i].Name() == name {
			return m.Stats()
		}
	}
	return replica.MasterStats{}
}

// clone returns the clone of a store, nil if there is none.
func (s *storeShare) clone(name string) *replica.Clone {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clones {
		if c.Store().Name() == name {
			return c
		}
	}
	return nil
}

func (s *storeShare) status() []cloneStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []cloneStatus{}
	for _, c := range s.clones {
		st := c.Status()
		all = append(all, cloneStatus{c.Store().Name(), c.Store().Stats().Keys, st.Seq, st.Behind, st.Stale,
			st.Master, st.Snapshots})
	}
	return all
}
