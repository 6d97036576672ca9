package capture

import (
	"encoding/binary"
	"fmt"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/reassembly"
)

// assembler puts the segments of one direction in order. It wraps gopacket's, with these rules:
//
//   - A connection is identified by the number of its session, not by its endpoints, so that a new
//     connection between the same endpoints is a different one.
//   - gopacket gets stream offsets instead of sequence numbers (half.offset). They wrap around after
//     3 GiB only, and nothing out of order crosses that point, where gopacket counts wrongly.
//   - gopacket gets SYN without data, never FIN, and RST only when the session has ended and no data
//     wait: otherwise it keeps pages, or loses count of them.
//   - It is flushed by session, not for all sessions in the order of a map.
type assembler struct {
	asm    *reassembly.Assembler
	tcp    layers.TCP
	ci     assemblerTime
	accept accept // how the next segment is taken

	run     []byte // what the last call delivered, valid until the next
	skipped int    // bytes missing before run; -1 if the beginning is missing
	any     bool   // whether it delivered
}

// accept determines the offset that a segment gets.
type accept uint8

const (
	asIs    accept = iota // the one it has
	inOrder               // the one that gopacket waits for
	beyond                // a later one
)

// assemblerTime is the time of all packets: reassembly does not depend on time.
type assemblerTime struct{}

func (assemblerTime) GetCaptureInfo() gopacket.CaptureInfo { return gopacket.CaptureInfo{} }

func newAssembler(l limits) *assembler {
	a := &assembler{}
	a.asm = reassembly.NewAssembler(reassembly.NewStreamPool(a))
	a.asm.MaxBufferedPagesPerConnection = l.pages
	a.asm.MaxBufferedPagesTotal = l.pagesTotal
	return a
}

// feed gives a part of a direction to gopacket. What is in order afterwards is in run.
func (a *assembler) feed(session uint64, side int, offset int64, payload []byte, syn bool) error {
	a.tcp = layers.TCP{Seq: uint32(offset), SYN: syn}
	a.tcp.Payload = payload
	return a.assemble(session, side)
}

// flush skips the first missing segment of a direction. The data behind it, up to the next missing
// segment, are in run. It reports whether there were any.
func (a *assembler) flush(session uint64, side int) (bool, error) {
	limit := a.asm.MaxBufferedPagesPerConnection
	a.asm.MaxBufferedPagesPerConnection, a.accept = 1, beyond
	defer func() { a.asm.MaxBufferedPagesPerConnection, a.accept = limit, asIs }()
	// An empty segment beyond a gap adds nothing and finds the limit reached.
	a.tcp = layers.TCP{}
	err := a.assemble(session, side)
	return a.any, err
}

// discard drops everything that waits for a missing segment of a direction.
func (a *assembler) discard(session uint64, side int) error {
	for {
		if more, err := a.flush(session, side); err != nil || !more {
			return err
		}
	}
}

// release makes gopacket forget a session of which no data wait.
func (a *assembler) release(session uint64) error {
	a.accept = inOrder
	defer func() { a.accept = asIs }()
	for side := range 2 {
		a.tcp = layers.TCP{RST: true}
		if err := a.assemble(session, side); err != nil {
			return err
		}
	}
	return nil
}

// assemble passes a.tcp to gopacket, whose state is undefined after an error.
func (a *assembler) assemble(session uint64, side int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("capture: TCP reassembly failed: %v", p)
		}
	}()
	a.run, a.skipped, a.any = a.run[:0], 0, false
	var ends [2][9]byte
	for i := range ends {
		binary.BigEndian.PutUint64(ends[i][:], session)
		ends[i][8] = byte(i)
	}
	flow := gopacket.NewFlow(gopacket.EndpointType(0), ends[side][:], ends[1-side][:])
	a.asm.AssembleWithContext(flow, &a.tcp, a.ci)
	return nil
}

// New implements reassembly.StreamFactory.
func (a *assembler) New(_, _ gopacket.Flow, _ *layers.TCP,
	_ reassembly.AssemblerContext) reassembly.Stream {
	return a
}

// Accept implements reassembly.Stream. next is -1 before the first segment.
func (a *assembler) Accept(tcp *layers.TCP, _ gopacket.CaptureInfo, _ reassembly.TCPFlowDirection,
	next reassembly.Sequence, start *bool, _ reassembly.AssemblerContext) bool {
	switch a.accept {
	case inOrder:
		tcp.Seq = uint32(max(next, 0))
		*start = true
	case beyond:
		tcp.Seq = uint32(max(next, 0)) + 1<<20
	}
	return true
}

// ReassembledSG implements reassembly.Stream.
func (a *assembler) ReassembledSG(sg reassembly.ScatterGather, _ reassembly.AssemblerContext) {
	n, _ := sg.Lengths()
	_, _, _, skip := sg.Info()
	a.run = append(a.run, sg.Fetch(n)...)
	a.skipped, a.any = skip, true
}

// ReassemblyComplete implements reassembly.Stream.
func (a *assembler) ReassemblyComplete(reassembly.AssemblerContext) bool { return true }
