//go:build darwin || freebsd

package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"zmtpd/capture"
	"zmtpd/capture/filter"
)

// Source gives the packets of an interface from a BPF device. It is not for concurrent use, except
// for Stats.
type Source struct {
	ctx  context.Context
	cfg  Config
	fd   int
	link uint16
	buf  []byte
	rest []byte // of buf, not read yet

	received, bytes atomic.Uint64
}

// maxDevices is how many BPF devices are tried.
const maxDevices = 256

func open(ctx context.Context, cfg Config) (*Source, error) {
	if len(cfg.Interfaces) > 1 || cfg.Fanout != nil || cfg.HardwareTimestamps {
		return nil, errors.New("capture: several interfaces, fanout and hardware timestamps are " +
			"available on Linux only")
	}
	fd, err := openDevice()
	if err != nil {
		return nil, err
	}
	s := &Source{ctx: ctx, cfg: cfg, fd: fd}
	if err := s.configure(cfg.Interfaces[0]); err != nil {
		_ = s.Close() // the first error counts
		return nil, fmt.Errorf("capture: interface %s: %w", cfg.Interfaces[0], err)
	}
	return s, nil
}

// openDevice opens the first BPF device that is free.
func openDevice() (int, error) {
	fd, err := syscall.Open("/dev/bpf", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	for i := 0; err != nil && i < maxDevices; i++ {
		if fd, err = syscall.Open(fmt.Sprintf("/dev/bpf%d", i),
			syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err == nil {
			break
		}
		if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
			return -1, fmt.Errorf("capture: %w: run it as root, or make /dev/bpf* readable", err)
		}
		if !errors.Is(err, syscall.EBUSY) {
			break
		}
	}
	if err != nil {
		return -1, fmt.Errorf("capture: no BPF device: %w", err)
	}
	return fd, nil
}

func (s *Source) configure(name string) error {
	if err := syscall.CheckBpfVersion(s.fd); err != nil {
		return err
	}
	size, err := syscall.SetBpfBuflen(s.fd, s.cfg.BlockSize)
	if err != nil {
		return fmt.Errorf("buffer of %d bytes: %w", s.cfg.BlockSize, err)
	}
	s.buf = make([]byte, size)
	if err := syscall.SetBpfInterface(s.fd, name); err != nil {
		return err
	}
	link, err := syscall.BpfDatalink(s.fd)
	if err != nil {
		return err
	}
	s.link = uint16(link)
	if err := s.attach(); err != nil {
		return err
	}
	// A read returns after that time, with or without packets.
	wait := syscall.NsecToTimeval(int64(pollTime))
	if err := syscall.SetBpfTimeout(s.fd, &wait); err != nil {
		return err
	}
	if err := syscall.SetBpfImmediate(s.fd, 1); err != nil {
		return err
	}
	if s.cfg.Promiscuous {
		return syscall.SetBpfPromisc(s.fd, 1)
	}
	return nil
}

func (s *Source) attach() error {
	if strings.TrimSpace(s.cfg.Filter) == "" {
		return nil
	}
	program, err := filter.Compile(s.cfg.Filter, filter.Options{Link: s.link})
	if err != nil {
		return err
	}
	instructions := make([]syscall.BpfInsn, len(program))
	for i, in := range program {
		instructions[i] = syscall.BpfInsn{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return syscall.SetBpf(s.fd, instructions)
}

// Next implements capture.Source. It waits for a packet.
func (s *Source) Next() (capture.Packet, error) {
	for len(s.rest) == 0 {
		if s.ctx.Err() != nil {
			return capture.Packet{}, io.EOF
		}
		s.cfg.Idle()
		n, err := syscall.Read(s.fd, s.buf)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return capture.Packet{}, fmt.Errorf("capture: BPF device: %w", err)
		}
		s.rest = s.buf[:max(n, 0)]
	}
	h := (*syscall.BpfHdr)(unsafe.Pointer(&s.rest[0]))
	start, end := int(h.Hdrlen), int(h.Hdrlen)+int(h.Caplen)
	p := capture.Packet{Time: time.Unix(int64(h.Tstamp.Sec), int64(h.Tstamp.Usec)*1000),
		Link: s.link, Data: s.rest[start:end]}
	s.received.Add(1)
	s.bytes.Add(uint64(h.Caplen))
	s.rest = s.rest[min(aligned(end), len(s.rest)):]
	return p, nil
}

// aligned returns where the header of the packet behind one that ends at n begins (BPF_WORDALIGN).
func aligned(n int) int {
	return (n + syscall.BPF_ALIGNMENT - 1) &^ (syscall.BPF_ALIGNMENT - 1)
}

// Stats returns the counters. Any goroutine may call it.
func (s *Source) Stats() Stats {
	sum := Stats{Received: s.received.Load(), Bytes: s.bytes.Load()}
	if k, err := syscall.BpfStats(s.fd); err == nil {
		sum.Link, sum.Dropped = uint64(k.Recv), uint64(k.Drop)
	}
	return sum
}

// Close ends the capture.
func (s *Source) Close() error { return syscall.Close(s.fd) }
