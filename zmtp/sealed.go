package zmtp

import (
	"zmtpd/zmtp/wire"
)

// maxSealOverhead is how much longer than its content a protected frame may be: CURVE's MESSAGE
// adds 33 bytes to a part, and the bound on a command applies to its content.
const maxSealOverhead = 64

// fillSealed reads protected frames and opens those that are whole into the slab. Its buffer grows
// with the reads, and shrinks when they are small for a while.
func (rd *reader) fillSealed() (int, error) {
	n, err := rd.in.Read(rd.sealed[len(rd.sealed):cap(rd.sealed)])
	rd.short = n < cap(rd.sealed)-len(rd.sealed)
	rd.sealed = rd.sealed[:len(rd.sealed)+n]
	filled := len(rd.sealed) == cap(rd.sealed)
	if n > 0 {
		if oerr := rd.open(); oerr != nil {
			return n, oerr
		}
	}
	var merr error
	switch size := cap(rd.sealed); {
	case filled && size < largeSlab:
		merr = rd.resizeSealed(min(4*size, largeSlab))
	case len(rd.sealed) == size: // a large frame: twice what has arrived
		merr = rd.resizeSealed(2 * size)
	case len(rd.sealed) == 0 && size > largeSlab:
		merr = rd.resizeSealed(largeSlab)
	case n >= size/16:
		rd.small = 0
	default:
		if rd.small++; rd.small >= 64 && size > minReadBuffer && len(rd.sealed) <= size/4 {
			merr = rd.resizeSealed(size / 4)
		}
	}
	if merr != nil {
		return n, merr
	}
	return n, err
}

// resizeSealed continues with a buffer of size bytes for protected frames. It waits while the
// memory budget has no room for it, or until the connection is closed.
func (rd *reader) resizeSealed(size int) error {
	p := rd.p
	_, frame, _, _ := wire.ParseHeader(rd.sealed)
	if !p.memory.Reserve(int64(size), frame, p.closed) {
		return p.cause
	}
	p.memory.Release(int64(cap(rd.sealed)))
	rd.sealed = append(make([]byte, 0, size), rd.sealed...)
	rd.small = 0
	return nil
}

// open opens the whole frames that were read, and moves the rest to the front.
func (rd *reader) open() error {
	whole, bad := rd.wholeFrames()
	if whole > 0 {
		if len(rd.slab.buf)-rd.w < whole {
			if err := rd.replace(slabFor(max(rd.size, rd.w-rd.r+whole))); err != nil {
				return err
			}
		}
		out, err := rd.p.opener.Open(rd.slab.buf[rd.w:rd.w], rd.sealed[:whole])
		rd.w += len(out)
		rd.sealed = rd.sealed[:copy(rd.sealed, rd.sealed[whole:])]
		if err != nil {
			return err
		}
	}
	return bad
}

// wholeFrames returns the length of the whole frames at the front, and refuses one that is too
// large before it has arrived.
func (rd *reader) wholeFrames() (int, error) {
	limit := rd.decoder.MaxMessageSize
	for at := 0; ; {
		_, size, n, err := wire.ParseHeader(rd.sealed[at:])
		if err != nil {
			return at, err
		}
		if limit > 0 && size-maxSealOverhead > max(limit, wire.MaxCommandSize) {
			return at, wire.Errorf(wire.MessageTooLarge,
				"protected frame of %d bytes, the limit is %d", size, limit)
		}
		if n == 0 || size > int64(len(rd.sealed)-at-n) {
			return at, nil
		}
		at += n + int(size)
	}
}

// writeSealed is write for a connection whose frames are protected. n counts the bytes of taken,
// those of frames whose protected form the kernel took whole.
func (w *writer) writeSealed(taken []chunk) (n int, err error) {
	for i := 0; i < len(taken); {
		w.sealed = w.sealed[:0]
		first := i
		for i < len(taken) && len(w.sealed) < chunkSize {
			w.sealed = w.p.sealer.Seal(w.sealed, taken[i].b)
			i++
		}
		w.countSealed()
		w.vec = append(w.vec[:0], w.sealed)
		written, err := w.flush()
		if err != nil {
			return n + unsealed(taken[first:i], w.sealed[:written]), err
		}
		for _, c := range taken[first:i] {
			n += len(c.b)
		}
	}
	if cap(w.sealed) > 4*chunkSize {
		w.sealed = nil // a large message should not hold its memory for ever
		w.countSealed()
	}
	return n, nil
}

// countSealed counts w.sealed in the memory budget. It does not wait: the frames in it are about to
// be written.
func (w *writer) countSealed() {
	if n := int64(cap(w.sealed)); n != w.counted {
		w.p.memory.Add(n - w.counted)
		w.counted = n
	}
}

// unsealed returns how many bytes of chunks are in frames whose protected form is whole in sealed.
func unsealed(chunks []chunk, sealed []byte) (n int) {
	for _, c := range chunks {
		for rest := c.b; len(rest) > 0; {
			size := wholeFrame(sealed)
			if size == 0 {
				return n
			}
			sealed = sealed[size:]
			plain := wholeFrame(rest)
			rest = rest[plain:]
			n += plain
		}
	}
	return n
}

// wholeFrame returns the size of the frame at the front of b, 0 if it is not whole.
func wholeFrame(b []byte) int {
	_, size, n, err := wire.ParseHeader(b)
	if err != nil || n == 0 || size > int64(len(b)-n) {
		return 0
	}
	return n + int(size)
}
