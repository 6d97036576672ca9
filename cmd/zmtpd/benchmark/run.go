package benchmark

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"zmtpd/zmtp"
)

// Limits of a Config.
const (
	MaxSizes       = 32
	MaxFor         = time.Hour
	MaxConnections = 10_000
	MaxTimeout     = time.Hour
)

// maxSamples bounds the round trips of one measurement.
const maxSamples = 1_000_000

// Config is what to measure.
type Config struct {
	Endpoint    string        // of the far side
	Sizes       []int         // of messages in bytes
	For         time.Duration // of each measurement
	Connections int           // to set up at most
	Timeout     time.Duration // longest time to wait for an answer, also for the first one
	Socket      zmtp.Config
	Watch       func(*zmtp.Dealer) // called once with the socket before it connects; may be nil
	Stage       func(string)       // called with the name of each measurement; may be nil
}

// Check returns an error if a value is out of its limits.
func (c *Config) Check() error {
	if len(c.Sizes) > MaxSizes {
		return fmt.Errorf("%d sizes of messages are too many; choose at most %d", len(c.Sizes),
			MaxSizes)
	}
	for _, size := range c.Sizes {
		if size < 1 || size > MaxSize {
			return fmt.Errorf("a message of %d bytes cannot be measured; choose 1 to %d", size,
				MaxSize)
		}
	}
	switch {
	case c.For <= 0 || c.For > MaxFor:
		return fmt.Errorf("a measurement of %v is not possible; choose more than 0s and at most %v",
			c.For, MaxFor)
	case c.Timeout <= 0 || c.Timeout > MaxTimeout:
		return fmt.Errorf("an answer cannot be awaited for %v; choose more than 0s and at most %v",
			c.Timeout, MaxTimeout)
	case c.Connections < 0 || c.Connections > MaxConnections:
		return fmt.Errorf("%d connections are too many; choose at most %d", c.Connections,
			MaxConnections)
	}
	return nil
}

// Run measures against the far side at Endpoint. It blocks until everything is measured, or until
// ctx ends, which is an error. It fails if the far side does not answer, answers wrongly, or loses
// the connection.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	c.Socket.MaxMessageSize = MaxSize
	c.Socket.SendBytes, c.Socket.RecvBytes = queueBytes, queueBytes
	s := zmtp.NewDealer(c.Socket)
	defer s.Close()
	if c.Watch != nil {
		c.Watch(s)
	}
	if err := s.Connect(c.Endpoint); err != nil {
		return nil, err
	}
	n := near{c, s}
	report, err := n.measure(ctx)
	if ctx.Err() != nil {
		return nil, errors.New("stopped before everything was measured")
	}
	return report, err
}

// near is the near side.
type near struct {
	Config
	s *zmtp.Dealer
}

func (n *near) measure(ctx context.Context) (*Report, error) {
	hello := message(echo, 1)
	if err := n.exchange(ctx, n.s, hello); err != nil {
		return nil, err
	}
	report := &Report{Endpoint: n.Endpoint}
	if peers := n.s.Peers(); len(peers) > 0 {
		report.Mechanism = peers[0].Mechanism
	}
	for _, size := range n.Sizes {
		r := SizeResult{Bytes: size}
		n.stage(fmt.Sprintf("throughput of %d bytes", size))
		if _, err := n.stream(ctx, size, n.For/4); err != nil { // until the queues are full
			return nil, err
		}
		var err error
		if r.Throughput, err = n.stream(ctx, size, n.For); err != nil {
			return nil, err
		}
		n.stage(fmt.Sprintf("latency of %d bytes", size))
		if r.RoundTrip, err = n.roundTrips(ctx, size); err != nil {
			return nil, err
		}
		report.Sizes = append(report.Sizes, r)
	}
	n.stage("connection set-up")
	var err error
	report.Connection, err = n.connect(ctx, hello)
	return report, err
}

func (n *near) stage(name string) {
	if n.Stage != nil {
		n.Stage(name)
	}
}

// message returns a message of a kind and a size.
func message(kind byte, size int) zmtp.Message {
	payload := make([]byte, size)
	payload[0] = kind
	return zmtp.NewMessage(payload)
}

// stream sends messages of a size for some time, and waits until all have arrived.
func (n *near) stream(ctx context.Context, size int, d time.Duration) (Throughput, error) {
	m, last := message(drop, size), message(echo, 1)
	ctx, cancel := context.WithTimeoutCause(ctx, d+n.Timeout, n.silent())
	defer cancel()
	group := min(max((64<<10)/size, 1), 64) // so that the clock costs little
	sent, began := uint64(0), time.Now()
	for time.Since(began) < d {
		for range group {
			if err := n.s.Send(ctx, m); err != nil {
				return Throughput{}, cause(ctx, err)
			}
		}
		sent += uint64(group)
	}
	if err := n.exchange(ctx, n.s, last); err != nil {
		return Throughput{}, err
	}
	t := newThroughput(sent, size, time.Since(began))
	return t, n.connected()
}

// roundTrips measures how long messages of a size take to the far side and back, one by one.
func (n *near) roundTrips(ctx context.Context, size int) (Times, error) {
	m := message(echo, size)
	var all []time.Duration
	for began := time.Now(); len(all) == 0 ||
		(time.Since(began) < n.For && len(all) < maxSamples); {
		before := time.Now()
		if err := n.exchange(ctx, n.s, m); err != nil {
			return Times{}, err
		}
		all = append(all, time.Since(before))
	}
	return newTimes(all), n.connected()
}

// connect measures how long a new connection takes until its first answer, one by one.
func (n *near) connect(ctx context.Context, hello zmtp.Message) (Times, error) {
	var all []time.Duration
	for began := time.Now(); len(all) < n.Connections && (len(all) == 0 ||
		time.Since(began) < n.For); {
		before := time.Now()
		s := zmtp.NewDealer(n.Socket)
		err := s.Connect(n.Endpoint)
		if err == nil {
			err = n.exchange(ctx, s, hello)
		}
		all = append(all, time.Since(before))
		s.Close()
		if err != nil {
			return Times{}, err
		}
	}
	return newTimes(all), nil
}

// exchange sends m and waits until it comes back.
func (n *near) exchange(ctx context.Context, s *zmtp.Dealer, m zmtp.Message) error {
	ctx, cancel := context.WithTimeoutCause(ctx, n.Timeout, n.silent())
	defer cancel()
	if err := s.Send(ctx, m); err != nil {
		return cause(ctx, err)
	}
	back, err := s.Recv(ctx)
	if err != nil {
		return cause(ctx, err)
	}
	if back.NumParts() != 1 || !bytes.Equal(back.Part(0), m.Part(0)) {
		return fmt.Errorf("%s: the answer is not what was sent; is it zmtpd bench --listen?",
			n.Endpoint)
	}
	return nil
}

// silent is the error about a far side that does not answer in time.
func (n *near) silent() error {
	return fmt.Errorf("%s does not answer within %v; is there zmtpd bench --listen?", n.Endpoint,
		n.Timeout)
}

// cause returns why ctx has ended, or err if it has not.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connected returns an error if the connection was lost: what was measured is wrong then.
func (n *near) connected() error {
	if made := n.s.Stats().Handshakes; made != 1 {
		return fmt.Errorf("%s: the connection was lost during a measurement", n.Endpoint)
	}
	return nil
}

// newTimes sorts all and describes it.
func newTimes(all []time.Duration) Times {
	if len(all) == 0 {
		return Times{}
	}
	slices.Sort(all)
	at := func(percent int) float64 {
		return float64(all[(len(all)-1)*percent/100].Nanoseconds()) / 1e3
	}
	return Times{Count: len(all), P50: at(50), P90: at(90), P99: at(99), Max: at(100)}
}
