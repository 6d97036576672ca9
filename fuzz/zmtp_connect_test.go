package fuzz_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

func init() {
	corpora["FuzzConnect"] = func(tb testing.TB) [][]byte { return corpora["FuzzNullSession"](tb) }
	corpora["FuzzConfig"] = func(testing.TB) [][]byte {
		all := [][]byte{nil, {0}, {255, 255, 255, 255, 255, 255, 255, 255}}
		for typ := range len(everyType) {
			b := make([]byte, 400)
			for i := range b {
				b[i] = byte(i * (typ + 1))
			}
			all = append(all, append([]byte{byte(typ)}, b...))
		}
		return all
	}
}

// FuzzConnect lets sockets connect to a server that sends the bytes, on their own and behind the
// handshake of an honest server. Afterwards an honest one listens in its place, and is served.
func FuzzConnect(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		handshake := wire.AppendGreeting(nil, "NULL", false)
		for _, c := range []struct {
			server wire.SocketType
			stream []byte
		}{{wire.PULL, b}, {wire.PULL, shaken(handshake, wire.PULL, b)},
			{wire.XPUB, shaken(handshake, wire.XPUB, b)}} {
			connectTo(t, c.server, c.stream)
		}
	})
}

func shaken(greeting []byte, typ wire.SocketType, b []byte) []byte {
	stream := wire.AppendCommand(greeting, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(typ)))
	return append(stream, b...)
}

func connectTo(t *testing.T, server wire.SocketType, stream []byte) {
	network := new(zmtptest.Network)
	l, err := network.Listen("a:1")
	if err != nil {
		t.Fatal(err)
	}
	hung := make(chan struct{})
	go func() {
		defer close(hung)
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		l.Close()
		conn.Write(stream) // the client may hang up before all is written
		conn.(*zmtptest.Conn).CloseWrite()
		io.Copy(io.Discard, conn)
		conn.Close()
	}()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	cfg := zmtp.Config{Dial: dialer(network), RetryAlways: true, RecvHWM: -1, RecvBytes: -1,
		MaxMessageSize: 1 << 20, ReconnectInterval: time.Millisecond,
		ReconnectMax: 10 * time.Millisecond}
	if server == wire.PULL {
		push := zmtp.NewPush(cfg)
		defer push.Close()
		pull := zmtp.NewPull(zmtp.Config{})
		defer pull.Close()
		if err := push.Connect("tcp://a:1"); err != nil {
			t.Fatal(err)
		}
		<-hung
		listen(t, network, pull.Socket)
		// What was sent on the first connection may be lost with it.
		for push.Stats().Peers == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if err := push.Send(ctx, zmtp.NewMessageString("honest")); err != nil {
			t.Fatal(err)
		}
		if _, err := pull.Recv(ctx); err != nil {
			t.Fatal("the honest server receives nothing: ", err)
		}
		return
	}
	sub := zmtp.NewSub(cfg)
	defer sub.Close()
	xpub := zmtp.NewXPub(zmtp.Config{})
	defer xpub.Close()
	if err := errors.Join(sub.Subscribe("honest"), sub.Connect("tcp://a:1")); err != nil {
		t.Fatal(err)
	}
	<-hung
	listen(t, network, xpub.Socket)
	if m, err := xpub.Recv(ctx); err != nil || string(m.Part(0)) != "\x01honest" {
		t.Fatal("the honest server gets no subscription: ", err)
	}
	if err := xpub.Send(ctx, zmtp.NewMessageString("honest message")); err != nil {
		t.Fatal(err)
	}
	for m, err := range sub.All(ctx) {
		if err != nil {
			t.Fatal("the honest message does not arrive: ", err)
		}
		if string(m.Part(0)) == "honest message" {
			return
		}
	}
}

func listen(t *testing.T, network *zmtptest.Network, s *zmtp.Socket) {
	t.Helper()
	l, err := network.Listen("a:1")
	if err == nil {
		_, err = s.Serve(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// everyType makes a socket of each type.
var everyType = []func(zmtp.Config) *zmtp.Socket{
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewPub(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewSub(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewXPub(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewXSub(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewPush(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewPull(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewReq(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewRep(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewDealer(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewRouter(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewPair(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewStream(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewClient(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewServer(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewRadio(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewDish(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewScatter(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewGather(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewPeerSocket(c).Socket },
	func(c zmtp.Config) *zmtp.Socket { return zmtp.NewChannel(c).Socket },
}

// FuzzConfig makes a socket of which the type and every number, flag and byte string of its
// configuration come from the input. It listens, meets a peer, is configured again, and ends.
func FuzzConfig(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		typ, b := int(b[0])%len(everyType), b[1:]
		var cfg zmtp.Config
		for _, field := range reflect.ValueOf(&cfg).Elem().Fields() {
			setField(field, &b)
		}
		network := new(zmtptest.Network)
		cfg.Dial = dialer(network)
		s := everyType[typ](cfg)
		defer s.Close()
		l, err := network.Listen("a:1")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := s.Serve(l); err != nil {
			return // a routing id or property that cannot be
		}
		conn, err := network.Dial(t.Context(), "a:1")
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(shaken(wire.AppendGreeting(nil, "NULL", false), wire.DEALER, nil))
		conn.Write(zmtp.NewMessageString("a", "", "b").Wire())
		s.Connect("tcp://a:1")
		s.Reconfigure(cfg)
		s.Peers()
		conn.Close()
	})
}

// setField sets a field, and the fields in it, from the first bytes of b.
func setField(v reflect.Value, b *[]byte) {
	next := func() int64 {
		var word [8]byte
		*b = (*b)[copy(word[:], *b):]
		// Small numbers and the largest are more interesting than those between.
		return int64(binary.LittleEndian.Uint64(word[:])) >> (word[0] & 63)
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(next()&1 != 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(next())
	case reflect.Uint8:
		v.SetUint(uint64(next()) & 255)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n := min(int(next()&511), len(*b))
			v.SetBytes((*b)[:n])
			*b = (*b)[n:]
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			setField(field, b)
		}
	}
}
