package zmtp

// errParts is returned for a message of several parts by the types that send one part only.
var errParts error = &sentinel{"zmtp: the socket type sends messages of one part only", ErrMessage}

// onePart is the check of the types whose messages have one part (RFC 41, 49, 51, 52).
func onePart(m Message) error {
	if m.NumParts() != 1 {
		return errParts
	}
	return nil
}

// onePart removes the messages of b that have several parts, as libzmq does, counts them as
// dropped, and reports whether any are left.
func (b *Batch) onePart() bool {
	kept := b.spans[:0]
	for _, s := range b.spans {
		if s.parts == 1 {
			kept = append(kept, s)
		}
	}
	if n := len(b.spans) - len(kept); n > 0 {
		b.peer.Drop(DropMalformed, n)
	}
	b.spans = kept
	return len(kept) > 0
}
