package printer

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"zmtpd/capture"
	"zmtpd/capture/cluster"
	"zmtpd/zmtp/wire"
)

// Filter selects events. An empty list selects all. What Topics, Events, Paths and Commands name is
// selected together: with one of them, nothing else is.
type Filter struct {
	Addresses []Address // of either side of the session
	Types     []wire.SocketType
	Topics    []string // prefixes
	Events    []string // names of Zeek events
	Paths     []string // of Zeek logs
	Commands  []string // of ZMTP, such as SUBSCRIBE
}

// Address is an address, a network or a port, or an address with a port.
type Address struct {
	Net  netip.Prefix // not valid for any
	Port uint16       // 0 for any
}

// ParseAddress parses "10.0.0.1", "10.0.0.0/8", "10.0.0.1:5555", "[2001:db8::1]:5555" or ":5555".
func ParseAddress(s string) (Address, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return Address{Net: p.Masked()}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return Address{Net: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return Address{netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), a.Port()}, nil
	}
	if port, ok := strings.CutPrefix(s, ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
			return Address{Port: uint16(n)}, nil
		}
	}
	return Address{}, fmt.Errorf("%.100q is no address: write 10.0.0.1, 10.0.0.0/8, "+
		"10.0.0.1:5555, [2001:db8::1]:5555 or :5555", s)
}

func (a Address) matches(e netip.AddrPort) bool {
	return (!a.Net.IsValid() || a.Net.Contains(e.Addr())) && (a.Port == 0 || a.Port == e.Port())
}

// Select is a capture.Options.Select: it reports whether a session between two endpoints can have
// events that match.
func (f *Filter) Select(client, server netip.AddrPort) bool {
	return len(f.Addresses) == 0 || slices.ContainsFunc(f.Addresses, func(a Address) bool {
		return a.matches(client) || a.matches(server)
	})
}

// Match reports whether an event is selected.
func (f *Filter) Match(ev *capture.Event, item cluster.Item) bool {
	if !f.Select(ev.Session.Client, ev.Session.Server) {
		return false
	}
	if len(f.Types) > 0 && !slices.Contains(f.Types, ev.Session.FromClient.Type) &&
		!slices.Contains(f.Types, ev.Session.FromServer.Type) {
		return false
	}
	if len(f.Topics)+len(f.Events)+len(f.Paths)+len(f.Commands) == 0 {
		return true
	}
	return f.matchTopic(ev, item) ||
		item.Kind == cluster.Event && slices.Contains(f.Events, string(item.Event.Name)) ||
		item.Kind == cluster.Log && slices.Contains(f.Paths, string(item.Batch.Path)) ||
		ev.Kind == capture.Command && slices.Contains(f.Commands, ev.Name)
}

// matchTopic compares the topic of a subscription, an event, or any message of a publisher.
func (f *Filter) matchTopic(ev *capture.Event, item cluster.Item) bool {
	topic := item.Topic
	if topic == nil && ev.Kind == capture.Message {
		switch ev.Session.Peer(ev.From).Type {
		case wire.PUB, wire.XPUB:
			topic = ev.Message.Part(0)
		}
	}
	return topic != nil && slices.ContainsFunc(f.Topics, func(prefix string) bool {
		return bytes.HasPrefix(topic, []byte(prefix))
	})
}
