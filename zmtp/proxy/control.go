package proxy

import (
	"context"
	"encoding/binary"
	"errors"

	"zmtpd/zmtp"
)

// Control is a socket of type REP, PAIR or DEALER through which another program steers a proxy.
type Control interface {
	Recv(context.Context) (zmtp.Message, error)
	Send(context.Context, zmtp.Message) error
	Type() zmtp.SocketType
}

// Serve obeys the commands that come from s until ctx ends, the socket is closed, or a TERMINATE
// came (zmq_proxy_steerable): PAUSE, RESUME, TERMINATE, and STATISTICS, to which the answer has
// eight parts of 8 bytes in the order of the host: parts and bytes that the front received, those
// that it sent, and the same for the back. A REP answers every other command, also one that
// it does not know, with an empty message. Serve returns nil unless a socket fails.
func (p *Proxy) Serve(ctx context.Context, s Control) error {
	for {
		m, err := s.Recv(ctx)
		if err != nil {
			return ended(ctx, err)
		}
		command := string(m.Part(0))
		var answer zmtp.Message
		switch command {
		case "PAUSE":
			p.Pause()
		case "RESUME":
			p.Resume()
		case "STATISTICS":
			answer = p.Statistics().message()
		}
		if answer.NumParts() == 0 && s.Type() == zmtp.REP {
			answer = zmtp.NewMessage(nil)
		}
		if answer.NumParts() > 0 {
			if err := s.Send(ctx, answer); err != nil {
				return ended(ctx, err)
			}
		}
		if command == "TERMINATE" {
			p.Terminate()
			return nil
		}
	}
}

// ended returns err unless it is the orderly end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, zmtp.ErrClosed) {
		return nil
	}
	return err
}

func (s Statistics) message() zmtp.Message {
	var parts [][]byte
	for _, one := range []SocketStatistics{s.Front, s.Back} {
		for _, n := range []uint64{one.In.Parts, one.In.Bytes, one.Out.Parts, one.Out.Bytes} {
			parts = append(parts, binary.NativeEndian.AppendUint64(nil, n))
		}
	}
	return zmtp.NewMessage(parts...)
}
