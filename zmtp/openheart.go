package zmtp

import "zmtpd/zmtp/wire"

// openSealer is the Sealer of a connection with SessionTraits.OpenHeartbeats.
type openSealer struct{ Sealer }

// Seal implements Sealer.
func (s openSealer) Seal(dst, frames []byte) []byte {
	dst, _ = exceptHeartbeats(dst, frames, func(dst, frames []byte) ([]byte, error) {
		return s.Sealer.Seal(dst, frames), nil
	})
	return dst
}

// openOpener is the Opener of such a connection.
type openOpener struct{ Opener }

// Open implements Opener.
func (o openOpener) Open(dst, stream []byte) ([]byte, error) {
	return exceptHeartbeats(dst, stream, o.Opener.Open)
}

// exceptHeartbeats applies f to the whole frames in stream but for PING and PONG, which it copies.
func exceptHeartbeats(dst, stream []byte, f func(dst, frames []byte) ([]byte, error)) (
	out []byte, err error) {
	first := 0 // of the frames for f
	for at := 0; at < len(stream); {
		size := wholeFrame(stream[at:])
		if size == 0 { // of the application's own: f refuses it
			break
		}
		if frame := stream[at : at+size]; isHeartbeat(frame) {
			if dst, err = f(dst, stream[first:at]); err != nil {
				return dst, err
			}
			dst = append(dst, frame...)
			first = at + size
		}
		at += size
	}
	if first == len(stream) {
		return dst, nil
	}
	return f(dst, stream[first:])
}

// isHeartbeat reports whether a whole frame is a PING or PONG.
func isHeartbeat(frame []byte) bool {
	flags, _, n, _ := wire.ParseHeader(frame)
	if flags&wire.Command == 0 {
		return false
	}
	name, _, _ := wire.ParseCommand(frame[n:])
	return string(name) == wire.CmdPing || string(name) == wire.CmdPong
}
