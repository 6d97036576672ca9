package live

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"zmtpd/capture"
	"zmtpd/capture/filter"
)

// Source gives the packets of interfaces. It is not for concurrent use, except for Stats.
type Source struct {
	ctx   context.Context
	cfg   Config
	rings []*ring
	polls []unix.PollFd
	turn  int // of rings
}

// ring is the ring of one interface. The kernel fills its blocks in order, and a block belongs to
// the reader until it is given back.
type ring struct {
	fd       int
	memory   []byte
	size     int // of a block
	block    int // the current one
	held     bool
	left     uint32 // packets of the block that were not read
	at       uint32 // offset of the next one in the block
	link     uint16
	loopback bool

	received, bytes, seen, dropped atomic.Uint64
}

// Offsets in the memory that is shared with the kernel (linux/if_packet.h: tpacket_block_desc,
// tpacket3_hdr with sockaddr_ll behind it).
const (
	blockStatus = 8
	blockCount  = 12
	blockFirst  = 16

	headerNext    = 0
	headerSec     = 4
	headerNsec    = 8
	headerSnapLen = 12
	headerStatus  = 20
	headerMAC     = 24
	headerVLAN    = 32
	headerTPID    = 36
	headerSize    = 48
	addressType   = headerSize + 10 // sll_pkttype
)

// Types of devices (linux/if_arp.h).
const (
	deviceEther    = 1
	deviceLoopback = 772
)

const frameSize = 2048 // Zeek's; the kernel checks it and does not use it

func open(ctx context.Context, cfg Config) (*Source, error) {
	if page := os.Getpagesize(); cfg.BlockSize < page || cfg.BlockSize%page != 0 ||
		cfg.BlockSize > 1<<30 {
		return nil, fmt.Errorf("capture: block size %d: it has to be a multiple of %d",
			cfg.BlockSize, page)
	}
	if cfg.BufferSize < cfg.BlockSize {
		return nil, fmt.Errorf("capture: buffer size %d: it has to be that of a block at least, %d",
			cfg.BufferSize, cfg.BlockSize)
	}
	s := &Source{ctx: ctx, cfg: cfg}
	for _, name := range cfg.Interfaces {
		r, err := newRing(name, cfg)
		if err != nil {
			_ = s.Close() // the first error counts
			return nil, err
		}
		s.rings = append(s.rings, r)
		s.polls = append(s.polls, unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN})
	}
	return s, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func newRing(name string, cfg Config) (r *ring, err error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("capture: interface %s: %w", name, err)
	}
	// Without a protocol no packet arrives before everything is set.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) {
		return nil, permissionError("packets of "+name+" cannot be captured", err)
	} else if err != nil {
		return nil, fmt.Errorf("capture: interface %s: %w", name, err)
	}
	r = &ring{fd: fd, size: cfg.BlockSize, loopback: device.Flags&net.FlagLoopback != 0,
		link: linkType(name)}
	defer func() {
		if err != nil {
			_ = r.close() // the first error counts
			r, err = nil, fmt.Errorf("capture: interface %s: %w", name, err)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION,
		unix.TPACKET_V3); err != nil {
		return r, fmt.Errorf("PACKET_VERSION: %w", err)
	}
	if err := r.attach(cfg.Filter); err != nil {
		return r, err
	}
	blocks := cfg.BufferSize / cfg.BlockSize
	req := unix.TpacketReq3{Block_size: uint32(cfg.BlockSize), Block_nr: uint32(blocks),
		Frame_size: frameSize, Frame_nr: uint32(blocks * (cfg.BlockSize / frameSize)),
		Retire_blk_tov: uint32(max(1, cfg.BlockTimeout.Milliseconds()))}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING,
		&req); err != nil {
		return r, fmt.Errorf("ring of %d bytes: %w", cfg.BufferSize, err)
	}
	if r.memory, err = unix.Mmap(fd, 0, blocks*cfg.BlockSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED); err != nil {
		return r, fmt.Errorf("mmap of %d bytes: %w", blocks*cfg.BlockSize, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL),
		Ifindex: device.Index}); err != nil {
		return r, fmt.Errorf("bind: %w", err)
	}
	return r, r.options(name, device.Index, cfg)
}

// attach makes the kernel apply a filter.
func (r *ring) attach(expression string) error {
	if strings.TrimSpace(expression) == "" {
		return nil
	}
	program, err := filter.Compile(expression, filter.Options{Link: r.link, Kernel: true})
	if err != nil {
		return err
	}
	instructions := make([]unix.SockFilter, len(program))
	for i, in := range program {
		instructions[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}); err != nil {
		return fmt.Errorf("filter of %d instructions: %w", len(instructions), err)
	}
	return nil
}

// options sets what can be set behind bind, in Zeek's order (AF_Packet.cc).
func (r *ring) options(name string, index int, cfg Config) error {
	if cfg.Promiscuous {
		if err := unix.SetsockoptPacketMreq(r.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}); err != nil {
			return fmt.Errorf("promiscuous mode: %w", err)
		}
	}
	if f := cfg.Fanout; f != nil {
		mode := uint32(f.Mode)
		if f.Defrag {
			mode |= unix.PACKET_FANOUT_FLAG_DEFRAG
		}
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT,
			int(uint32(f.ID)|mode<<16)); err != nil {
			return fmt.Errorf("fanout group %d in mode %v: %w; all members of a group need the "+
				"same interface, mode and protocol", f.ID, f.Mode, err)
		}
	}
	if cfg.HardwareTimestamps {
		if err := unix.IoctlSetHwTstamp(r.fd, name, &unix.HwTstampConfig{
			Rx_filter: unix.HWTSTAMP_FILTER_ALL}); err != nil {
			return fmt.Errorf("the device gives no hardware timestamps: %w", err)
		}
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_TIMESTAMP,
			unix.SOF_TIMESTAMPING_RAW_HARDWARE|unix.SOF_TIMESTAMPING_RX_HARDWARE); err != nil {
			return fmt.Errorf("PACKET_TIMESTAMP: %w", err)
		}
	}
	return nil
}

// linkType returns the link type of an interface: Ethernet, unless it has no link header.
func linkType(name string) uint16 {
	const ethernet, raw = 1, 101
	text, err := os.ReadFile("/sys/class/net/" + name + "/type")
	if err != nil {
		return ethernet
	}
	switch n, _ := strconv.Atoi(strings.TrimSpace(string(text))); n {
	case deviceEther, deviceLoopback:
		return ethernet
	}
	return raw
}

// Next implements capture.Source. It waits for a packet.
func (s *Source) Next() (capture.Packet, error) {
	for {
		for range s.rings {
			r := s.rings[s.turn]
			if p, ok := r.next(); ok {
				return p, nil
			}
			s.turn = (s.turn + 1) % len(s.rings)
		}
		if s.ctx.Err() != nil {
			return capture.Packet{}, io.EOF
		}
		s.cfg.Idle()
		if err := s.wait(); err != nil {
			return capture.Packet{}, err
		}
	}
}

func (s *Source) wait() error {
	if _, err := unix.Poll(s.polls, int(pollTime/time.Millisecond)); err != nil &&
		!errors.Is(err, unix.EINTR) {
		return fmt.Errorf("capture: poll: %w", err)
	}
	for i, p := range s.polls {
		if p.Revents&unix.POLLERR != 0 {
			if errno, err := unix.GetsockoptInt(s.rings[i].fd, unix.SOL_SOCKET,
				unix.SO_ERROR); err == nil && errno != 0 {
				return fmt.Errorf("capture: interface %s: %w", s.cfg.Interfaces[i],
					unix.Errno(errno))
			}
		}
	}
	return nil
}

// current returns the current block.
func (r *ring) current() []byte { return r.memory[r.block*r.size:][:r.size] }

// status returns the status of a block, which the kernel writes at the same time.
func status(block []byte) *uint32 { return (*uint32)(unsafe.Pointer(&block[blockStatus])) }

// next returns the next packet that is there.
func (r *ring) next() (capture.Packet, bool) {
	for {
		b := r.current()
		if !r.held {
			if atomic.LoadUint32(status(b))&unix.TP_STATUS_USER == 0 {
				return capture.Packet{}, false
			}
			r.held = true
			r.left = binary.NativeEndian.Uint32(b[blockCount:])
			r.at = binary.NativeEndian.Uint32(b[blockFirst:])
		}
		for r.left > 0 {
			h := b[r.at:]
			r.left--
			r.at += binary.NativeEndian.Uint32(h[headerNext:])
			if r.loopback && h[addressType] == unix.PACKET_OUTGOING {
				continue // it comes once more, as incoming
			}
			return r.packet(h), true
		}
		atomic.StoreUint32(status(b), unix.TP_STATUS_KERNEL)
		r.held = false
		r.block = (r.block + 1) % (len(r.memory) / r.size)
	}
}

func (r *ring) packet(h []byte) capture.Packet {
	size := binary.NativeEndian.Uint32(h[headerSnapLen:])
	start := binary.NativeEndian.Uint16(h[headerMAC:])
	p := capture.Packet{
		Time: time.Unix(int64(binary.NativeEndian.Uint32(h[headerSec:])),
			int64(binary.NativeEndian.Uint32(h[headerNsec:]))),
		Link: r.link, Data: h[start:][:size],
	}
	if status := binary.NativeEndian.Uint32(h[headerStatus:]); status&
		unix.TP_STATUS_VLAN_VALID != 0 {
		p.Tagged, p.VLAN = true, uint16(binary.NativeEndian.Uint32(h[headerVLAN:]))
		p.VLANType = unix.ETH_P_8021Q
		if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			p.VLANType = binary.NativeEndian.Uint16(h[headerTPID:])
		}
	}
	r.received.Add(1)
	r.bytes.Add(uint64(size))
	return p
}

// Stats returns the counters. Any goroutine may call it.
func (s *Source) Stats() (sum Stats) {
	for _, r := range s.rings {
		sum = sum.Add(r.stats())
	}
	return sum
}

// stats adds what the kernel has counted since the last call: reading its counters resets them.
func (r *ring) stats() Stats {
	if k, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET,
		unix.PACKET_STATISTICS); err == nil {
		r.seen.Add(uint64(k.Packets)) // those that were dropped included
		r.dropped.Add(uint64(k.Drops))
	}
	return Stats{Received: r.received.Load(), Bytes: r.bytes.Load(), Link: r.seen.Load(),
		Dropped: r.dropped.Load()}
}

// Close ends the capture. Packets of the Source must not be used any more.
func (s *Source) Close() error {
	var all []error
	for _, r := range s.rings {
		all = append(all, r.close())
	}
	return errors.Join(all...)
}

func (r *ring) close() error {
	var err error
	if r.memory != nil {
		err = unix.Munmap(r.memory)
		r.memory = nil
	}
	return errors.Join(err, unix.Close(r.fd))
}
