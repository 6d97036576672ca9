package zmtp

import (
	"io"
	"net"
	"os"
	"syscall"
)

// handOverSize is the size in bytes from which on a message is handed over as it is. To copy a
// smaller one twice, into a chunk and out of it, costs less than a chunk of its own.
const handOverSize = 4 << 10

// handsOver returns the pipes through which the ends of an inproc connection hand chunks over, nil
// if the connection is another one or its mechanism protects the traffic.
func (p *Peer) handsOver() (in, out *inprocPipe) {
	if c, ok := p.conn.(*inprocConn); ok && p.sealer == nil {
		return c.in, c.out
	}
	return nil, nil
}

// hand gives chunks to the reader, and waits until it has taken them. It returns how many bytes it
// has taken, which it also reports to progress while it waits. The caller keeps its references to
// the memory of the chunks, whose content must not change any more.
func (p *inprocPipe) hand(chunks []chunk, progress func(int)) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chunks = chunks
	for left := len(chunks); ; {
		for ; left > len(p.chunks); left-- {
			m := len(chunks[len(chunks)-left].b)
			progress(m)
			n += m
		}
		switch {
		case left == 0:
			return n, nil
		case p.writerGone:
			err = net.ErrClosed
		case p.ended, p.readerGone:
			err = syscall.EPIPE
		}
		if err != nil {
			p.chunks = nil
			return n, err
		}
		p.changed.open()
		p.wait(p.writeUntil)
	}
}

// takeChunk waits for a chunk, and returns it with a reference to its memory.
func (p *inprocPipe) takeChunk() (chunk, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readerGone:
			return chunk{}, net.ErrClosed
		case passed(p.readUntil):
			return chunk{}, os.ErrDeadlineExceeded
		case len(p.chunks) > 0:
			c := p.chunks[0]
			p.chunks = p.chunks[1:]
			for _, s := range []*slab{c.mem, c.slab} {
				if s != nil {
					s.retain()
				}
			}
			if len(p.chunks) == 0 {
				p.changed.open()
			}
			return c, nil
		case p.ended:
			return chunk{}, io.EOF
		}
		p.wait(p.readUntil)
	}
}

// letGo gives up the slab, of which nothing is left: a chunk is whole messages and commands. The
// other end may need its memory before there is another chunk.
func (rd *reader) letGo() {
	rd.release()
	rd.slab, rd.counted = &slab{}, false
	rd.slab.refs.Store(1)
	rd.r, rd.w = 0, 0
}

// fillHanded takes the next chunk of the other end as the slab.
func (rd *reader) fillHanded(pipe *inprocPipe) (int, error) {
	c, err := pipe.takeChunk()
	if err != nil {
		return 0, err
	}
	s := &slab{buf: c.b}
	switch {
	case c.mem != nil:
		s.buf, s.base = c.mem.buf, c.mem
	case c.slab != nil:
		s.base, s.immutable = c.slab, c.slab.immutable
	default:
		s.immutable = c.msgs == 1
	}
	s.refs.Store(1)
	counted, err := rd.reserve(len(s.buf))
	if err != nil {
		s.release()
		return 0, err
	}
	rd.use(s, counted)
	rd.w, rd.short = len(c.b), true
	return len(c.b), nil
}
