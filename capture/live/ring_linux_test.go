package live

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"zmtpd/capture"
	"zmtpd/forwarder/netnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// link is our end of a veth pair, whose other end is in another network namespace.
type link struct {
	name string
	peer netip.Addr
	host *netnstest.Host
}

func newLink(t testing.TB) link {
	t.Helper()
	host := netnstest.New(t)
	here := netip.MustParseAddr(host.Here)
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		addrs, _ := i.Addrs() // it may be that of another test, and gone
		for _, a := range addrs {
			if strings.HasPrefix(a.String(), here.String()+"/") {
				l := link{i.Name, here.Next(), host}
				l.awaitUp(t)
				return l
			}
		}
	}
	t.Fatalf("no interface has the address %s", here)
	return link{}
}

// awaitUp waits until the peer answers: nobody listens on its ports, so it refuses.
func (l link) awaitUp(t testing.TB) {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.peer,
		discardPort+1)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if _, err := c.Write([]byte("?")); errors.Is(err, unix.ECONNREFUSED) {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
	t.Fatal("the other end of the link does not answer")
}

// sent returns how many packets the interface has sent.
func (l link) sent(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/sys/class/net/" + l.name + "/statistics/tx_packets")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const discardPort = 9

// send sends numbered packets of 800 bytes to the peer from as many ports as flows says.
func (l link) send(t *testing.T, flows, each int) {
	t.Helper()
	for range flows {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.peer,
			discardPort)))
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 800)
		for i := range each {
			binary.BigEndian.PutUint32(b, uint32(i))
			// That nobody listens there is an error of a later call.
			if _, err := c.Write(b); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				t.Fatal(err)
			} else if err != nil {
				_, _ = c.Write(b)
			}
		}
		c.Close()
	}
}

var small = Config{BufferSize: 4 << 20, Filter: fmt.Sprintf("udp dst port %d", discardPort)}

func (l link) open(t *testing.T, ctx context.Context, cfg Config) *Source {
	t.Helper()
	cfg.Interfaces = []string{l.name}
	s, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// read reads packets until a number of them was read or none has come for a while, and calls each.
func read(t *testing.T, s *Source, cancel func(), most int, each func(capture.Packet)) (n int) {
	t.Helper()
	idle := 0
	s.cfg.Idle = func() {
		if idle++; idle > 5 {
			cancel()
		}
	}
	for n < most {
		p, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		idle = 0
		n++
		each(p)
	}
	return n
}

// Every packet that the interface sends is there, once, whole, with its time, and no other.
func TestRing(t *testing.T) {
	l := newLink(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := l.open(t, ctx, small)
	before, began := l.sent(t), time.Now()
	l.send(t, 1, 2000)
	sent := l.sent(t) - before
	next := uint32(0)
	n := read(t, s, cancel, 1<<30, func(p capture.Packet) {
		i := binary.BigEndian.Uint32(p.Data[14+20+8:])
		if len(p.Data) != 14+20+8+800 || i != next || p.Link != 1 {
			t.Fatalf("packet %d of %d bytes, want %d", i, len(p.Data), next)
		}
		next = i + 1
		if d := p.Time.Sub(began); d < -time.Second || d > time.Minute {
			t.Fatalf("its time is %v, %v later", p.Time, d)
		}
	})
	if n != 2000 || sent < 2000 || sent > 2100 {
		t.Errorf("%d packets were read, the interface sent %d", n, sent)
	}
	if got := s.Stats(); got != (Stats{Received: 2000, Bytes: 2000 * 842, Link: 2000}) {
		t.Errorf("%+v", got)
	}
}

// Four rings of a group share the packets, and each flow stays on one ring.
func TestFanout(t *testing.T) {
	l := newLink(t)
	cfg := small
	cfg.Fanout = &Fanout{ID: uint16(os.Getpid()), Mode: FanoutHash}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var rings []*Source
	for range 4 {
		rings = append(rings, l.open(t, ctx, cfg))
	}
	const flows, each = 64, 20
	l.send(t, flows, each)
	of := map[uint16]int{} // the ring of a flow
	total, used := 0, 0
	for i, s := range rings {
		inner, cancel := context.WithCancel(ctx)
		s.ctx = inner
		n := read(t, s, cancel, 1<<30, func(p capture.Packet) {
			port := binary.BigEndian.Uint16(p.Data[14+20:])
			if before, ok := of[port]; ok && before != i {
				t.Errorf("flow %d is on rings %d and %d", port, before, i)
			}
			of[port] = i
		})
		cancel()
		total += n
		if n > 0 {
			used++
		}
	}
	if total != flows*each || used < 2 {
		t.Errorf("%d packets on %d rings, want %d", total, used, flows*each)
	}
}

// What a ring has no room for while nobody reads is counted as dropped, and accumulates.
func TestDropped(t *testing.T) {
	l := newLink(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := small
	cfg.BlockSize, cfg.BufferSize = 32768, 4*32768
	s := l.open(t, ctx, cfg)
	l.send(t, 1, 1000)
	first := s.Stats()
	l.send(t, 1, 1000)
	second := s.Stats()
	if first.Dropped == 0 || second.Dropped <= first.Dropped || second.Link != 2000 {
		t.Errorf("%+v, then %+v", first, second)
	}
	n := read(t, s, cancel, 1<<30, func(capture.Packet) {})
	if got := s.Stats(); got.Received != uint64(n) || got.Link != got.Received+got.Dropped {
		t.Errorf("%d packets were read: %+v", n, got)
	}
}

// Without the capability the error says which one it is, and how to get it.
func TestUnprivileged(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		s, err := Open(context.Background(), Config{Interfaces: []string{"lo"}})
		if err == nil {
			s.Close()
		}
		done <- err
	}()
	err := <-done
	if err == nil || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") ||
		!strings.Contains(err.Error(), "setcap cap_net_raw+ep /") {
		t.Errorf("%v", err)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no interface": {},
		"unknown":      {Interfaces: []string{"no-such-interface"}},
		"block size":   {Interfaces: []string{"lo"}, BlockSize: 1000},
		"buffer size":  {Interfaces: []string{"lo"}, BufferSize: 100},
		"filter":       {Interfaces: []string{"lo"}, Filter: "port of call"},
	} {
		if s, err := Open(t.Context(), cfg); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
	var m FanoutMode
	for text, want := range map[string]FanoutMode{"hash": FanoutHash, "QM": FanoutQM,
		"AF_Packet::FANOUT_CPU": FanoutCPU} {
		if err := m.UnmarshalText([]byte(text)); err != nil || m != want {
			t.Errorf("%s: %v, %v", text, m, err)
		}
	}
	if err := m.UnmarshalText([]byte("none")); err == nil {
		t.Error("no error")
	}
}

// In all other modes a group shares the packets, too: each comes to one ring.
func TestFanoutModes(t *testing.T) {
	l := newLink(t)
	for mode := FanoutLB; mode < numFanoutModes; mode++ {
		cfg := small
		cfg.BufferSize = 1 << 20
		cfg.Fanout = &Fanout{ID: uint16(os.Getpid()) + uint16(mode), Mode: mode}
		ctx, cancel := context.WithCancel(t.Context())
		rings := []*Source{l.open(t, ctx, cfg), l.open(t, ctx, cfg)}
		l.send(t, 4, 10)
		var counts []int
		for _, s := range rings {
			inner, cancel := context.WithCancel(ctx)
			s.ctx = inner
			counts = append(counts, read(t, s, cancel, 1<<30, func(capture.Packet) {}))
			cancel()
		}
		cancel()
		switch {
		case counts[0]+counts[1] != 40:
			t.Errorf("%v: %d packets, want 40 in all", mode, counts)
		case mode == FanoutLB && min(counts[0], counts[1]) == 0:
			t.Errorf("%v: %d packets, want some on each", mode, counts)
		}
	}
}

// The kernel removes VLAN tags of packets that arrive, and tells which they were.
func TestVLAN(t *testing.T) {
	l := newLink(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := small
	cfg.Filter = "vlan 5"
	s := l.open(t, ctx, cfg)
	fd, err := l.host.RawSocket()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const etherLocal, tci = 0x88b5, 3<<13 | 5 // an experimental EtherType; priority 3
	for _, id := range []uint16{tci, 6} {
		packet := append(bytes.Repeat([]byte{0xff}, 6), 2, 0, 0, 0, 0, 1)
		packet = binary.BigEndian.AppendUint16(packet, unix.ETH_P_8021Q)
		packet = binary.BigEndian.AppendUint16(packet, id)
		packet = binary.BigEndian.AppendUint16(packet, etherLocal)
		packet = append(packet, make([]byte, 100)...)
		if _, err := unix.Write(fd, packet); err != nil {
			t.Fatal(err)
		}
	}
	n := read(t, s, cancel, 1<<30, func(p capture.Packet) {
		if !p.Tagged || p.VLAN != tci || p.VLANType != unix.ETH_P_8021Q ||
			binary.BigEndian.Uint16(p.Data[12:]) != etherLocal {
			t.Errorf("tagged %t %#x %#x: % x", p.Tagged, p.VLANType, p.VLAN, p.Data[:16])
		}
	})
	if n != 1 {
		t.Errorf("%d packets", n)
	}
}

// A device without hardware timestamps is named.
func TestHardwareTimestamps(t *testing.T) {
	l := newLink(t)
	s, err := Open(t.Context(), Config{Interfaces: []string{l.name}, HardwareTimestamps: true})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), l.name) ||
		!strings.Contains(err.Error(), "no hardware timestamps") {
		t.Errorf("%v", err)
	}
}
