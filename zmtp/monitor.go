package zmtp

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// EventType is the type of an Event, with the numbers and meanings of libzmq's ZMQ_EVENT_*.
type EventType uint16

// The events (zmq_socket_monitor). ZMQ_EVENT_CLOSE_FAILED has no counterpart: a connection of
// package net is closed whatever Close returns.
const (
	EventConnected      EventType = 0x0001 // the transport is connected
	EventConnectDelayed EventType = 0x0002 // an attempt to connect began
	EventConnectRetried EventType = 0x0004 // the next attempt comes after Interval
	EventListening      EventType = 0x0008
	EventBindFailed     EventType = 0x0010
	EventAccepted       EventType = 0x0020
	EventAcceptFailed   EventType = 0x0040
	// a listener, or an attempt to connect, was closed
	EventClosed                  EventType = 0x0080
	EventDisconnected            EventType = 0x0200
	EventMonitorStopped          EventType = 0x0400 // the last event of every Monitor
	EventHandshakeFailedNoDetail EventType = 0x0800
	EventHandshakeSucceeded      EventType = 0x1000
	EventHandshakeFailedProtocol EventType = 0x2000
	EventHandshakeFailedAuth     EventType = 0x4000
)

var eventNames = map[EventType]string{
	EventConnected: "CONNECTED", EventConnectDelayed: "CONNECT_DELAYED",
	EventConnectRetried: "CONNECT_RETRIED",
	EventListening:      "LISTENING", EventBindFailed: "BIND_FAILED", EventAccepted: "ACCEPTED",
	EventAcceptFailed: "ACCEPT_FAILED", EventClosed: "CLOSED", EventDisconnected: "DISCONNECTED",
	EventMonitorStopped:          "MONITOR_STOPPED",
	EventHandshakeFailedNoDetail: "HANDSHAKE_FAILED_NO_DETAIL",
	EventHandshakeSucceeded:      "HANDSHAKE_SUCCEEDED",
	EventHandshakeFailedProtocol: "HANDSHAKE_FAILED_PROTOCOL",
	EventHandshakeFailedAuth:     "HANDSHAKE_FAILED_AUTH",
}

// String returns libzmq's name of the event without ZMQ_EVENT_.
func (t EventType) String() string {
	if s, ok := eventNames[t]; ok {
		return s
	}
	return fmt.Sprintf("EVENT_%#04x", uint16(t))
}

// Event is one event of a socket. Where libzmq's event has a file descriptor, it has the addresses
// of the connection; where that has an errno, it has an error.
type Event struct {
	Type     EventType
	Endpoint string        // as given to Listen (resolved) or Connect
	Local    net.Addr      // of the connection, if there is one
	Remote   net.Addr      // likewise
	Value    uint32        // ZMQ_PROTOCOL_ERROR_* or the ZAP status, where libzmq's event has one
	Interval time.Duration // of EventConnectRetried
	Err      error         // the reason, if something failed or ended
}

// Monitor receives the events of a socket. It never holds the socket up: when its buffer is full,
// events are dropped and counted.
type Monitor struct {
	ch      chan Event
	dropped atomic.Uint64
}

// Events returns the channel of the events. It is closed after EventMonitorStopped.
func (m *Monitor) Events() <-chan Event { return m.ch }

// All returns an iterator over the events. It waits for each, and ends after EventMonitorStopped or
// with ctx.
func (m *Monitor) All(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			select {
			case e, ok := <-m.ch:
				if !ok || !yield(e) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Dropped returns how many events were dropped because the buffer was full.
func (m *Monitor) Dropped() uint64 { return m.dropped.Load() }

// monitors is the set of monitors of a socket.
type monitors struct {
	mu     sync.Mutex
	all    map[*Monitor]struct{}
	closed bool
}

// Monitor returns a monitor of the socket's events, with a buffer for so many events. It ends with
// StopMonitor or with the socket.
func (s *Socket) Monitor(buffer int) *Monitor {
	// one place is kept for EventMonitorStopped
	m := &Monitor{ch: make(chan Event, max(buffer, 1)+1)}
	s.monitors.mu.Lock()
	defer s.monitors.mu.Unlock()
	if s.monitors.closed {
		stop(m)
		return m
	}
	if s.monitors.all == nil {
		s.monitors.all = make(map[*Monitor]struct{})
	}
	s.monitors.all[m] = struct{}{}
	return m
}

// StopMonitor ends m with EventMonitorStopped. It does nothing to a monitor that has ended.
func (s *Socket) StopMonitor(m *Monitor) {
	s.monitors.mu.Lock()
	defer s.monitors.mu.Unlock()
	if _, ok := s.monitors.all[m]; ok {
		delete(s.monitors.all, m)
		stop(m)
	}
}

func stop(m *Monitor) {
	m.ch <- Event{Type: EventMonitorStopped}
	close(m.ch)
}

func (ms *monitors) emit(e Event) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for m := range ms.all {
		if len(m.ch) >= cap(m.ch)-1 {
			m.dropped.Add(1)
			continue
		}
		m.ch <- e
	}
}

func (ms *monitors) close() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.closed = true
	for m := range ms.all {
		stop(m)
	}
	ms.all = nil
}

// protocolErrors are libzmq's ZMQ_PROTOCOL_ERROR_ZMTP_* for the reasons that have one.
var protocolErrors = map[Reason]uint32{
	wire.NotZMTP:           0x10000000,
	wire.UnexpectedCommand: 0x10000001,
	wire.InvalidSequence:   0x10000002,
	wire.KeyExchange:       0x10000003,
	wire.MalformedCommand:  0x10000011,
	wire.MalformedMessage:  0x10000012,
	wire.MalformedHello:    0x10000013,
	wire.MalformedInitiate: 0x10000014,
	wire.MalformedError:    0x10000015,
	wire.MalformedWelcome:  0x10000017,
	wire.MalformedReady:    0x10000018,
	wire.Cryptographic:     0x11000001,
	wire.MechanismMismatch: 0x11000002,
}

// failure turns the error that ended a handshake into the event that libzmq raises for it.
func failure(err error) (EventType, uint32) {
	r := reasonOf(err)
	if fault, ok := errors.AsType[*zap.Error](err); ok {
		return EventHandshakeFailedProtocol, uint32(fault.Fault)
	}
	if e, ok := errors.AsType[*wire.Error](err); ok && e.Status != 0 {
		return EventHandshakeFailedAuth, uint32(e.Status)
	}
	if code, ok := protocolErrors[r]; ok {
		return EventHandshakeFailedProtocol, code
	}
	if r.Protocol() && r != wire.PeerError {
		return EventHandshakeFailedProtocol, 0x10000000
	}
	return EventHandshakeFailedNoDetail, 0
}
