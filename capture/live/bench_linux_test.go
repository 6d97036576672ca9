package live

import (
	"bytes"
	"context"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"zmtpd/capture"
	"zmtpd/zmtp/wire"
)

// The load of BenchmarkLive: one direction of a TCP connection with packets of 800 bytes, at
// 1 Gbit/s.
const (
	loadPacket   = 800
	loadHeaders  = 14 + 20 + 20
	loadSegment  = loadPacket - loadHeaders
	loadRate     = 1e9 / 8 / loadPacket // packets a second
	loadDuration = 10 * time.Second
)

// pushSegment returns a packet of a client whose stream has data from offset at on. Nobody has its
// destination address, so no kernel answers.
func pushSegment(at uint32, flags byte, data []byte) []byte {
	b := []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0}
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(40+len(data)))
	b = append(b, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2)
	b = append(b, 40000>>8, 40000&0xff, 5557>>8, 5557&0xff)
	b = binary.BigEndian.AppendUint32(b, at)
	b = append(b, 0, 0, 0, 1, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return append(b, data...)
}

// generate sends for loadDuration and returns how many messages it sent, one in each packet.
func generate(fd int) (sent int, err error) {
	const syn, ack = 2, 16
	hello := wire.AppendGreeting(nil, "NULL", false)
	hello = wire.AppendCommand(hello, wire.CmdReady, wire.AppendProperty(nil, wire.PropSocketType,
		[]byte(wire.PUSH)))
	message := wire.AppendFrame(nil, wire.More, []byte("topic"))
	message = wire.AppendFrame(message, 0,
		make([]byte, loadSegment-len(message)-wire.MaxHeaderSize))
	for _, packet := range [][]byte{pushSegment(0, syn, nil), pushSegment(1, ack, hello)} {
		if _, err := unix.Write(fd, packet); err != nil {
			return 0, err
		}
	}
	at := uint32(1 + len(hello))
	packet := pushSegment(at, ack, message)
	began := time.Now()
	for {
		passed := time.Since(began)
		if passed > loadDuration {
			return sent, nil
		}
		for due := int(passed.Seconds() * loadRate); sent < due; sent++ {
			binary.BigEndian.PutUint32(packet[14+20+4:], at)
			if _, err := unix.Write(fd, packet); err != nil {
				return sent, err
			}
			at += uint32(len(message))
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// BenchmarkLive reads 1 Gbit/s of packets of 800 bytes from a ring with one thread, which dissects
// them. The generator needs another processor, and the machine should do nothing else.
func BenchmarkLive(b *testing.B) {
	l := newLink(b)
	fd, err := l.host.RawSocket()
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		s, err := Open(ctx, Config{Interfaces: []string{l.name}, Filter: "tcp port 5557"})
		if err != nil {
			b.Fatal(err)
		}
		var sent int
		var failed error
		go func() {
			defer cancel()
			sent, failed = generate(fd)
			time.Sleep(time.Second) // for the reader
		}()
		runtime.LockOSThread()
		before, messages := threadTime(b), 0
		for ev, err := range capture.New(s, capture.Options{}).Events(context.Background()) {
			if err != nil {
				b.Fatal(err)
			}
			if ev.Kind == capture.Message && bytes.Equal(ev.Message.Part(0), []byte("topic")) {
				messages++
			}
		}
		used := threadTime(b) - before
		runtime.UnlockOSThread()
		stats := s.Stats()
		if err := s.Close(); err != nil || failed != nil {
			b.Fatal(err, failed)
		}
		b.ReportMetric(float64(sent)*loadPacket*8/1e9/loadDuration.Seconds(), "Gbit/s")
		b.ReportMetric(100*used.Seconds()/loadDuration.Seconds(), "%-of-a-processor")
		b.ReportMetric(float64(stats.Dropped), "dropped")
		if lost := sent - messages; uint64(lost) > stats.Dropped {
			b.Errorf("%d of %d messages were not found, %d packets were dropped", lost, sent,
				stats.Dropped)
		}
	}
}

// threadTime returns the processor time of the thread.
func threadTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
