package zmtp

import (
	"errors"
	"io"
	"os"
	"time"

	"zmtpd/zmtp/internal/netsock"
	"zmtpd/zmtp/wire"
)

// lastLook is how long the read loop waits for data of a peer before it gives the peer up, where
// the system does not tell whether there is data. Data that has arrived is read at once; the time
// is for a process that seldom gets the processor.
const lastLook = 250 * time.Millisecond

// reader is the state of a peer's read loop, which alone may touch it.
type reader struct {
	p       *Peer
	in      io.Reader // reads from the connection
	decoder wire.Decoder
	slab    *slab
	counted bool // the budget counts slab for the reader
	r, w    int  // slab.buf[r:w] was read and not yet decoded
	limit   int  // how far the next read goes
	short   bool // the last read took less than it could
	size    int  // of the slab that suits the traffic
	small   int  // reads in a row that needed much less
	full    int  // reads in a row that filled a slab of slabSize
	msgs    int  // of the last batch
	need    int  // size of the incomplete item at r in bytes
	bulk    bool
	proven  int       // size of the largest recent bulk message, see provenFor
	since   time.Time // when proven was set
	batch   Batch
	parts   int // of the batch
	bytes   int
	sealed  []byte // with an Opener: read and not yet opened
	looked  *error // the suspicion for which the current read is the last one
}

// readLoop reads until the connection ends, and returns why. first was read behind the handshake.
func (p *Peer) readLoop(first []byte) error {
	live := p.socket.live.Load()
	rd := &reader{p: p, in: netsock.NewReader(p.conn), size: minReadBuffer,
		decoder: wire.Decoder{MaxMessageSize: live.MaxMessageSize, MaxParts: live.MaxParts}}
	size := max(rd.size, len(first))
	p.memory.Add(int64(size))
	rd.slab = newCounted(size, p.memory, p.socket.memory)
	defer func() {
		rd.release()
		p.memory.Release(int64(cap(rd.sealed)))
	}()
	err := rd.start(first)
	if err != nil {
		return err
	}
	pipe, _ := p.handsOver()
	for {
		if pipe == nil {
			if err := rd.makeRoom(); err != nil {
				return err
			}
		} else {
			rd.letGo()
		}
		if p.backlog.wait() {
			p.outbox.wake()
		}
		var n int
		switch {
		case pipe != nil:
			n, err = rd.fillHanded(pipe)
		case p.opener == nil:
			n, err = rd.fill()
		default:
			n, err = rd.fillSealed()
		}
		if n > 0 {
			p.backlog.got(n, rd.short)
			p.heart.seen()
			p.memory.Progress(n)
			rd.trust()
			if err := rd.scan(); err != nil {
				return err
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = rd.lookAgain()
		}
		if err != nil {
			return ioError("traffic", err)
		}
	}
}

// trust drops a suspicion, since something came.
func (rd *reader) trust() {
	if rd.p.suspicion.Load() != nil {
		rd.p.suspicion.Store(nil)
		rd.looked = nil
		rd.p.conn.SetReadDeadline(time.Time{})
	}
}

// lookAgain is called when a read has timed out. It returns the suspicion if there is nothing to
// read. Otherwise it lets the loop read again: a read that begins after its deadline returns
// without looking for data.
func (rd *reader) lookAgain() error {
	conn, suspicion := rd.p.conn, rd.p.suspicion.Load()
	if suspicion == nil {
		return conn.SetReadDeadline(time.Time{})
	}
	if unread, _, ok := netsock.Queued(conn); ok {
		if unread == 0 {
			return *suspicion
		}
		return conn.SetReadDeadline(time.Time{})
	}
	if suspicion == rd.looked {
		return *suspicion
	}
	rd.looked = suspicion
	return conn.SetReadDeadline(time.Now().Add(lastLook))
}

// start takes the bytes that were read behind the handshake.
func (rd *reader) start(first []byte) error {
	if rd.p.opener == nil {
		rd.w = copy(rd.slab.buf, first)
		return rd.scan()
	}
	if err := rd.resizeSealed(max(minReadBuffer, len(first))); err != nil {
		return err
	}
	rd.sealed = append(rd.sealed, first...)
	if err := rd.open(); err != nil {
		return errors.Join(rd.scan(), err)
	}
	return rd.scan()
}

// fill reads into the slab.
func (rd *reader) fill() (int, error) {
	n, err := rd.in.Read(rd.slab.buf[rd.w:rd.limit])
	rd.short = n < rd.limit-rd.w
	if rd.limit == len(rd.slab.buf) && rd.need <= bulkSize {
		rd.adapt(n)
	}
	rd.w += n
	return n, err
}

// scan decodes what was read, and gives messages and commands to the pattern.
func (rd *reader) scan() error {
	rd.need = 0
	for rd.r < rd.w {
		if size, parts, bytes := rd.decoder.Whole(rd.slab.buf[rd.r:rd.w]); size > 0 {
			rd.found(size, parts, bytes)
			rd.r += size
			continue
		}
		it, err := rd.decoder.Next(rd.slab.buf[rd.r:rd.w])
		if err != nil {
			// The messages before the fault are good.
			return errors.Join(rd.flush(), err)
		}
		switch it.Kind {
		case wire.NeedMore:
			rd.need = it.Size
			rd.w = rd.r + it.To
			return rd.flush()
		case wire.AMessage:
			rd.found(it.Size, it.Parts, it.Bytes)
			rd.r += it.From
		case wire.ACommand:
			if err := errors.Join(rd.flush(), rd.p.command(it.Body)); err != nil {
				return err
			}
			rd.r += it.From
		}
	}
	return rd.flush()
}

// found adds the message at rd.r to the batch.
func (rd *reader) found(size, parts, bytes int) {
	rd.batch.spans = append(rd.batch.spans, span{rd.r, rd.r + size, parts, bytes})
	rd.parts += parts
	rd.bytes += bytes
	if rd.bulk = size > bulkSize; rd.bulk {
		rd.prove(size)
	}
}

// flush gives the messages that were found to the pattern.
func (rd *reader) flush() error {
	if len(rd.batch.spans) == 0 {
		return nil
	}
	p := rd.p
	p.heart.seen()
	p.speak()
	p.in.add(len(rd.batch.spans), rd.parts, rd.bytes)
	rd.batch.peer, rd.batch.slab = p, rd.slab
	err := p.socket.pattern.Receive(p, &rd.batch)
	rd.msgs = len(rd.batch.spans)
	rd.batch.spans, rd.parts, rd.bytes = rd.batch.spans[:0], 0, 0
	return err
}

const (
	// bulkSize is the size in bytes above which a read ends near the end of a message, so that
	// little has to be moved to the next slab.
	bulkSize = slabSize
	// lookAhead is how many bytes behind such a message are read with it: enough for the header of
	// the next one.
	lookAhead = 4 << 10
	// provenFor is how long a peer that has sent a message gets memory for another of that size at
	// once.
	provenFor = 10 * time.Second
)

// makeRoom makes room for the next read. The rest of the last read stays where it is, or moves to
// the front or to another slab, for which makeRoom may have to wait.
func (rd *reader) makeRoom() (err error) {
	left, size, want := rd.w-rd.r, len(rd.slab.buf), rd.want()
	// There is a bulk message that fits behind its beginning.
	bulk := rd.need > bulkSize && rd.r+rd.need <= size
	switch shared := rd.slab.refs.Load() > 1; {
	case bulk:
	case shared, left == 0 && size != want:
		// Messages in the slab must not be overwritten while a batch refers to them. There may be
		// room behind them, but small reads make small batches, which cost more than another slab.
		err = rd.replace(want)
	case size < want && (rd.w == size || rd.need > size && rd.need <= want):
		// A stream seldom ends where a slab does.
		err = rd.replace(want)
	case rd.r > 0:
		rd.w = copy(rd.slab.buf, rd.slab.buf[rd.r:rd.w])
		rd.r = 0
	}
	rd.limit = len(rd.slab.buf)
	if rd.need > bulkSize || rd.bulk && left == 0 {
		rd.limit = min(rd.limit, rd.r+rd.need+lookAhead)
	}
	return err
}

// want returns the size of the next slab. It depends on the bytes that have arrived, not on the
// size that the peer has announced: for a large message it doubles at most, unless the peer has
// recently sent one of that size.
func (rd *reader) want() int {
	if rd.need <= rd.size {
		return rd.size
	}
	left := rd.w - rd.r
	most := max(rd.size, 2*left)
	// Grow by a quarter at least; else each small part behind a large one would move everything.
	n := max(rd.need+lookAhead, left+left/4)
	if rd.need <= rd.proven && time.Since(rd.since) < provenFor {
		most = max(most, slabFor(n))
	}
	return min(slabFor(n), slabBelow(most))
}

// prove notes that the peer has sent a bulk message of size bytes.
func (rd *reader) prove(size int) {
	if now := time.Now(); size >= rd.proven || now.Sub(rd.since) >= provenFor {
		rd.proven, rd.since = size, now
	}
}

// replace continues with another slab of size bytes, into which it copies the rest of the last
// read. It waits while the inbox or the memory budget has no room for it, or until the connection
// is closed.
func (rd *reader) replace(size int) error {
	counted, err := rd.reserve(size)
	if err != nil {
		return err
	}
	s := newSlab(size)
	rd.w = copy(s.buf, rd.slab.buf[rd.r:rd.w])
	rd.r = 0
	rd.use(s, counted)
	return nil
}

// reserve reserves memory for a slab of size bytes in the budgets of the inbox and of the process.
// It waits like replace. counted is for use.
func (rd *reader) reserve(size int) (counted bool, err error) {
	p := rd.p
	in := p.socket.inbox
	counted = in.reserve(&p.inPipe, size)
	if !p.memory.Reserve(int64(size), int64(rd.need), p.closed) {
		if counted {
			in.unreserve(&p.inPipe, size)
		}
		return false, p.cause
	}
	return counted, nil
}

// use continues with s, for which reserve has reserved memory.
func (rd *reader) use(s *slab, counted bool) {
	p := rd.p
	s.holder.Store(p.memory)
	s.shared = p.socket.memory
	if counted {
		p.socket.inbox.made(&p.inPipe, s)
	}
	rd.release()
	rd.slab, rd.counted = s, counted
}

// release gives the slab back.
func (rd *reader) release() {
	if rd.counted {
		rd.p.socket.inbox.released(rd.slab)
	}
	rd.slab.release()
}

const (
	// fullReads is the number of full reads in a row after which a peer gets a large slab:
	// thousands of peers that each send a little must not hold one.
	fullReads = 16
	// manyMsgs is the number of messages in a slab of slabSize above which a large one gains
	// nothing: its messages would fill a queue of DefaultHWM at once.
	manyMsgs = DefaultHWM * slabSize / largeSlab / 2
)

// adapt lets the slab's size follow the size of the reads.
func (rd *reader) adapt(n int) {
	filled := rd.w+n == len(rd.slab.buf)
	if !filled {
		rd.full = 0
	}
	switch {
	case filled && rd.size < slabSize:
		rd.size = min(rd.size*4, slabSize)
		rd.small = 0
	case filled && rd.size == slabSize && rd.msgs <= manyMsgs:
		if rd.full++; rd.full >= fullReads {
			rd.size, rd.full = largeSlab, 0
		}
		rd.small = 0
	case n < rd.size/16:
		if rd.small++; rd.small >= 64 && rd.size > minReadBuffer {
			rd.size /= 4
			rd.small = 0
		}
	default:
		rd.small = 0
	}
}

// speak notes that the peer has sent something that is of use to the application.
func (p *Peer) speak() {
	if !p.spoke.Load() { // nearly never
		p.spoke.Store(true)
	}
}

// command acts on a command of the peer. It ignores a command that has no meaning for this socket
// type. READY and ERROR have none behind the handshake.
func (p *Peer) command(body []byte) error {
	p.heart.seen()
	name, data, err := wire.ParseCommand(body)
	if err != nil {
		return err
	}
	switch string(name) {
	case wire.CmdPing:
		ttl, context, err := wire.ParsePing(data)
		if err != nil {
			return err
		}
		p.heart.expect(p, time.Duration(ttl)*100*time.Millisecond)
		if !p.outbox.command(wire.AppendPong(nil, context)) {
			return p.waitForControl()
		}
	case wire.CmdPong, wire.CmdReady, wire.CmdError:
	default:
		if h := p.socket.commands; h != nil {
			p.speak()
			return h.Command(p, name, data)
		}
	}
	return nil
}

// waitForControl waits while too many PONGs are queued. That stops the reading from a peer that
// sends PINGs without reading the PONGs.
func (p *Peer) waitForControl() error {
	for {
		room, wait := p.outbox.controlWaits()
		if !wait {
			return nil
		}
		select {
		case <-room:
		case <-p.done:
			return nil // nothing is answered any more
		}
	}
}
