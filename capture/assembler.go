package capture

import (
	"encoding/binary"
	"fmt"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/reassembly"
)

// assembler puts the segments of one direction in order. It is gopacket's, fed so that its weak sides do not show:
//
//   - it knows a connection by its session's number and not by endpoints, so that a new connection with the endpoints
//     of one before is another connection;
//   - it sees stream offsets in place of sequence numbers (half.offset), which wrap around only after 3 GiB, and
//     nothing out of order across that point, where gopacket counts wrongly;
//   - it sees SYN without data, never FIN, and RST only when the session is given up and nothing waits any more: it
//     would keep, or lose count of, pages that wait at that time;
//   - it is flushed by session, not all at once in the order of a map.
type assembler struct {
	asm    *reassembly.Assembler
	tcp    layers.TCP
	ci     assemblerTime
	accept accept // how the next segment is taken

	run     []byte // what the last call delivered, valid until the next
	skipped int    // bytes missing before run; -1 if the beginning is missing
	any     bool   // whether it delivered
}

// accept says which offset a segment gets.
type accept uint8

const (
	asIs    accept = iota // the one it has
	inOrder               // the one that gopacket waits for
	beyond                // a later one
)

// assemblerTime is the time of all packets: nothing in here goes by time.
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

// flush stops waiting for the first missing segment of a direction: what waits behind it, up to the next that is
// missing, is in run. It reports whether there was anything.
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

// release makes gopacket forget a session, of which nothing waits any more.
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

// assemble passes a.tcp on. After an error gopacket's state is not to be trusted.
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
func (a *assembler) New(_, _ gopacket.Flow, _ *layers.TCP, _ reassembly.AssemblerContext) reassembly.Stream {
	return a
}

// Accept implements reassembly.Stream. next is -1 before the first segment.
func (a *assembler) Accept(tcp *layers.TCP, _ gopacket.CaptureInfo, _ reassembly.TCPFlowDirection, next reassembly.Sequence, start *bool, _ reassembly.AssemblerContext) bool {
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
