package cluster

import (
	"bytes"
	"errors"
	"strings"

	"zmtpd/capture"
	"zmtpd/forwarder/event"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Kind is the kind of an Item.
type Kind uint8

// The kinds of items.
const (
	None        Kind = iota // nothing of Zeek
	Log                     // a log batch
	Event                   // an event
	Subscribe               // a subscription, as a command or as a message
	Unsubscribe             // its end
	Malformed               // a message of Zeek that is not well formed
	numKinds
)

var kindNames = [numKinds]string{"none", "log", "event", "subscribe", "unsubscribe", "malformed"}

// String returns the name of the kind in lower case.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return "unknown"
}

// Item is what an event of a capture means to Zeek. It refers to the memory of that event, and is
// valid as long as that.
type Item struct {
	Kind   Kind
	Topic  []byte      // of Event, Subscribe and Unsubscribe
	Node   []byte      // of Log and Event: the id of the sender
	Format string      // of Log and Event: the name of the serializer
	Batch  zeek.Batch  // of Log
	Event  event.Event // of Event
	Err    error       // of Malformed
}

// parse returns what an event of a capture means.
func parse(ev *capture.Event) Item {
	switch ev.Kind {
	case capture.Command:
		switch ev.Name {
		case wire.CmdSubscribe:
			return Item{Kind: Subscribe, Topic: ev.Data}
		case wire.CmdCancel:
			return Item{Kind: Unsubscribe, Topic: ev.Data}
		}
	case capture.Message:
		return parseMessage(ev, ev.Message)
	}
	return Item{}
}

func parseMessage(ev *capture.Event, m zmtp.Message) Item {
	first, rest := m.CutPart()
	if rest.NumParts() == 0 {
		return parseSubscription(ev, first)
	}
	node, rest := rest.CutPart()
	format, rest := rest.CutPart()
	body, rest := rest.CutPart()
	if rest.NumParts() > 0 {
		return Item{}
	}
	item := Item{Node: node}
	switch string(format) {
	case zeek.SerializerName:
		item.Kind, item.Format = Log, zeek.SerializerName
		item.Batch, item.Err = zeek.ParseBatch(body)
	case event.BinaryName:
		item.Kind, item.Format, item.Topic = Event, event.BinaryName, first
		item.Event, item.Err = event.ParseEvent(body)
	case event.JSONName:
		item.Kind, item.Format, item.Topic = Event, event.JSONName, first
		item.Event, item.Err = parseJSON(body)
	default:
		return Item{}
	}
	if item.Err != nil {
		item.Kind = Malformed
	}
	return item
}

func parseJSON(body []byte) (event.Event, error) {
	raw, err := event.ParseJSON(nil, body)
	if err != nil {
		return event.Event{}, err
	}
	parsed, err := event.Parse(raw)
	if err != nil {
		return event.Event{}, err
	}
	return event.AsEvent(parsed)
}

// parseSubscription takes a message of one part. Zeek's XSUB subscribes with them, and so do all
// peers of ZMTP 3.0.
func parseSubscription(ev *capture.Event, b []byte) Item {
	switch ev.Session.Peer(ev.From).Type {
	case wire.SUB, wire.XSUB:
	default:
		return Item{}
	}
	switch {
	case len(b) > 0 && b[0] == 1:
		return Item{Kind: Subscribe, Topic: b[1:]}
	case len(b) > 0 && b[0] == 0:
		return Item{Kind: Unsubscribe, Topic: b[1:]}
	}
	return Item{}
}

// Prefix of the topic to which only the node with an id subscribes, and prefix and separator of
// ids (Zeek's policy/frameworks/cluster/backend/zeromq/options.zeek, main.zeek).
const (
	nodeTopicPrefix = "zeek.cluster.nodeid."
	idPrefix        = "zeromq_"
)

// nodeOfTopic returns the id in the topic of a node.
func nodeOfTopic(topic []byte) (id string, ok bool) {
	b, ok := bytes.CutPrefix(topic, []byte(nodeTopicPrefix))
	if !ok {
		return "", false
	}
	b, ok = bytes.CutSuffix(b, []byte("."))
	return string(b), ok && len(b) > 0
}

// nameOfID returns the name of a node in its id, zeromq_NAME_HOST_PID_UNIQUE.
func nameOfID(id string) string {
	rest, ok := strings.CutPrefix(id, idPrefix)
	for range 3 {
		i := strings.LastIndexByte(rest, '_')
		if !ok || i < 0 {
			return id
		}
		rest = rest[:i]
	}
	return rest
}

// helloArgs returns the arguments of Cluster::hello.
func helloArgs(ev event.Event) (name, id string, err error) {
	if string(ev.Name) != "Cluster::hello" {
		return "", "", errNoHello
	}
	return name, id, ev.Decode(&name, &id)
}

var errNoHello = errors.New("cluster: another event")
