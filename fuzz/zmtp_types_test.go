package fuzz_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// typed is a socket under attack, and the type of its peers.
type typed struct {
	peer wire.SocketType
	open func(zmtp.Config) *zmtp.Socket
}

// typedSockets are the types that look into messages or commands of their peers.
var typedSockets = []typed{
	{zmtp.DEALER, func(c zmtp.Config) *zmtp.Socket {
		return zmtp.NewRouter(c, zmtp.RouterOptions{NotifyConnect: true, Handover: true}).Socket
	}},
	{zmtp.DEALER, func(c zmtp.Config) *zmtp.Socket { return zmtp.NewRep(c).Socket }},
	{zmtp.ROUTER, func(c zmtp.Config) *zmtp.Socket {
		s := zmtp.NewReq(c, zmtp.ReqOptions{Relaxed: true, Correlate: true})
		ask(s)
		return s.Socket
	}},
	{zmtp.REP, func(c zmtp.Config) *zmtp.Socket {
		s := zmtp.NewReq(c, zmtp.ReqOptions{})
		ask(s)
		return s.Socket
	}},
	{zmtp.CLIENT, func(c zmtp.Config) *zmtp.Socket {
		return zmtp.NewServer(c, zmtp.ServerOptions{}).Socket
	}},
	{zmtp.DISH, func(c zmtp.Config) *zmtp.Socket { return zmtp.NewRadio(c).Socket }},
	{zmtp.RADIO, func(c zmtp.Config) *zmtp.Socket {
		s := zmtp.NewDish(c)
		if err := s.Join("group"); err != nil {
			panic(err)
		}
		return s.Socket
	}},
	{zmtp.CHANNEL, func(c zmtp.Config) *zmtp.Socket { return zmtp.NewChannel(c).Socket }},
}

// ask sends a request as soon as there is a peer.
func ask(s *zmtp.Req) {
	go s.Send(context.Background(), zmtp.NewMessageString("request")) // the end of s ends it
}

// socketTypeSeeds begin with the number of a socket in typedSockets.
func socketTypeSeeds(testing.TB) [][]byte {
	message := func(parts ...string) []byte { return zmtp.NewMessageString(parts...).Wire() }
	long := string(make([]byte, 256))
	command := func(name, data string) []byte {
		return wire.AppendCommand(nil, name, []byte(data))
	}
	var all [][]byte
	for kind, streams := range [][][]byte{
		{message("body"), message("", "body"), message("")},
		{message("no delimiter"), message(""), message("id", "", "body"), message("id", "")},
		{message("1234", "", "reply"), message("", "reply"), message("12345", "")},
		{message("", "reply"), message("no delimiter"), message("")},
		{message("one part"), message("two", "parts")},
		{command("JOIN", "group"), command("JOIN", long), command("LEAVE", "none")},
		{message("group", "body"), message("no group"), message(long, "body"),
			message("a", "b", "c")},
		{message("one part"), message("two", "parts")},
	} {
		for _, stream := range append(streams, slices.Concat(streams...)) {
			all = append(all, append([]byte{byte(kind)}, stream...))
		}
	}
	return all
}

// FuzzSocketTypes sends any bytes to a socket of a type that looks into what its peers send. The
// socket reads or refuses all of it, and ends without anything left behind.
func FuzzSocketTypes(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		kind := typedSockets[int(b[0])%len(typedSockets)]
		s := kind.open(zmtp.Config{RecvHWM: -1, HandshakeTimeout: 5 * time.Second})
		defer s.Close()
		hostile(t, new(zmtptest.Network), "a:1", s, kind.peer, b[1:])
	})
}
