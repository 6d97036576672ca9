package zmtp

import (
	"slices"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

func types(all []Event) []EventType {
	var list []EventType
	for _, e := range all {
		list = append(list, e.Type)
	}
	return list
}

// The sequences of events are libzmq's.
func TestMonitorSequences(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{})
		server := pull.Monitor(100)
		bind(t, n, pull.Socket, addr)
		push := NewPush(inMemory(n, Config{}), PushOptions{})
		client := push.Monitor(100)
		push.Connect("tcp://" + addr)
		synctest.Wait()
		shutdown0(t, push, 1<<40)
		synctest.Wait()
		shutdown0(t, pull, 1<<40)
		if got, want := types(events(server)), []EventType{
			EventListening, EventAccepted, EventHandshakeSucceeded, EventDisconnected, EventClosed,
			EventMonitorStopped,
		}; !slices.Equal(got, want) {
			t.Errorf("server %v, want %v", got, want)
		}
		got := events(client)
		if want := []EventType{EventConnectDelayed, EventConnected, EventHandshakeSucceeded,
			EventDisconnected}; !slices.Equal(types(got)[:4], want) {
			t.Errorf("client %v, want %v", types(got), want)
		}
		if last := got[len(got)-1]; last.Type != EventMonitorStopped {
			t.Errorf("the last event is %v", last.Type)
		}
		if e := got[2]; e.Endpoint != "tcp://"+addr || e.Remote.String() != addr || e.Local == nil {
			t.Errorf("event %+v", e)
		}
		late := pull.Monitor(1)
		if got := types(events(late)); !slices.Equal(got, []EventType{EventMonitorStopped}) {
			t.Errorf("a monitor of a closed socket: %v", got)
		}
	})
}

// A monitor that nobody reads delays nothing, and other monitors get all events.
func TestMonitorNeverBlocks(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{})
		unread, read, stopped := pull.Monitor(0), pull.Monitor(1000), pull.Monitor(1)
		pull.StopMonitor(stopped)
		pull.StopMonitor(stopped) // which has ended
		bind(t, n, pull.Socket, addr)
		for range 100 {
			r := dialRaw(t, n, addr)
			shake(r, wire.PUSH, wire.PULL)
			r.Conn.Close()
			synctest.Wait()
		}
		closeNow(t, pull)
		if got := len(events(read)); got != 303 || read.Dropped() != 0 {
			t.Errorf("%d events, %d dropped, want 303", got, read.Dropped())
		}
		got := types(events(unread))
		if !slices.Equal(got, []EventType{EventListening, EventMonitorStopped}) ||
			unread.Dropped() != 301 {
			t.Errorf("%v, %d dropped", got, unread.Dropped())
		}
		if got := types(events(stopped)); !slices.Equal(got, []EventType{EventMonitorStopped}) {
			t.Errorf("the stopped one got %v", got)
		}
	})
}

func TestEventNames(t *testing.T) {
	for typ, want := range map[EventType]string{
		EventHandshakeFailedNoDetail: "HANDSHAKE_FAILED_NO_DETAIL", EventConnected: "CONNECTED",
		0x8000: "EVENT_0x8000",
	} {
		if got := typ.String(); got != want {
			t.Errorf("%v", got)
		}
	}
}
