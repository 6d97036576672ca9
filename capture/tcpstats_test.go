package capture

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"zmtpd/zmtp/wire"
)

// Retransmissions, reordering and closed windows are counted for the peer that they are of.
func TestPeerStatistics(t *testing.T) {
	stream := pushed("one", "two", "three")
	n := len(pushed("one"))
	at := len(hello(wire.PULL))
	window := func(zero bool) tcpSegment {
		s := down(at, nil)
		s.ack, s.zeroWindow = upISN+1, zero
		return s
	}
	segments := append(established(), up(0, stream[:n]), up(0, stream[:n]),
		up(n+5, stream[n+5:]), up(n, stream[n:n+5]),
		window(true), window(true), window(false), window(true))
	events := mustRead(t, file(t, segments...), Options{})
	s := events[len(events)-1].Session
	if c := s.FromClient; c.Retransmitted != 1 || c.RetransmittedBytes != uint64(n) ||
		c.OutOfOrder != 1 || c.ZeroWindows != 0 || c.Packets != 5 {
		t.Errorf("client: %+v", c)
	}
	// Packets are a millisecond apart; the window is closed at the end.
	if c := s.FromServer; c.ZeroWindows != 2 || c.ZeroTime != 2*time.Millisecond ||
		c.ZeroSince.Sub(c.FirstZero) != 3*time.Millisecond || c.Retransmitted != 0 {
		t.Errorf("server: %+v", c)
	}
}

// A session that is idle for longer than MaxIdle ends.
func TestIdle(t *testing.T) {
	var packets [][]byte
	for _, s := range established() {
		packets = append(packets, s.packet(t, clientEnd, serverEnd))
	}
	otherEnd := netip.MustParseAddrPort("192.0.2.9:40000")
	for range 10 {
		packets = append(packets, up(0, []byte("x")).packet(t, otherEnd, serverEnd))
	}
	r, err := NewReader(bytes.NewReader(pcapFile(t, 1, packets...)),
		Options{MaxIdle: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	events, err := collect(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1]; line(last) != "5557 closed idle" ||
		last.Time.Sub(events[0].Time) > 7*time.Millisecond {
		t.Errorf("%q", lines(events))
	}
}
