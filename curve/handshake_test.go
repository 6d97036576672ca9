package curve

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/nacl/box"
	"pgregory.net/rapid"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
	"zmtpd/zmtp/zmtptest"
)

var localMetadata = wire.Metadata{{Name: wire.PropSocketType, Value: []byte("DEALER")}}

func newClient(t testing.TB, server Key, secret Secret) *Client {
	t.Helper()
	c, err := NewClient(server, secret)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newServer(t testing.TB, auth zmtp.Auth, secrets ...Secret) *Server {
	t.Helper()
	s, err := NewServer(auth, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return s.WithLimiter(NewLimiter(0))
}

// pair is a client and a server that have exchanged nothing yet.
type pair struct {
	client, server zmtp.Mechanism
}

func newPair(t testing.TB, auth zmtp.Auth) pair {
	t.Helper()
	public, secret := GenerateKeyPair()
	_, clientSecret := GenerateKeyPair()
	return pair{
		newClient(t, public, clientSecret).Mechanism(localMetadata),
		newServer(t, auth, secret).Mechanism(localMetadata),
	}
}

// body returns the body of b, which must be a single frame.
func body(t testing.TB, b []byte) []byte {
	t.Helper()
	_, size, n, err := wire.ParseHeader(b)
	if err != nil || n == 0 || int(size) != len(b)-n {
		t.Fatalf("not one frame: % x, %v", b, err)
	}
	return b[n:]
}

// until plays the handshake up to a command and returns its body: 0 is HELLO, 3 is READY. The other
// side has not received it yet.
func (p pair) until(t testing.TB, command int) []byte {
	t.Helper()
	sides := []zmtp.Mechanism{p.client, p.server}
	var cmd []byte
	for i := range command + 1 {
		out, _, err := sides[i%2].Handshake(nil, cmd)
		if err != nil {
			t.Fatal(err)
		}
		cmd = body(t, out)
	}
	return cmd
}

// taker returns the side that receives the command.
func (p pair) taker(command int) zmtp.Mechanism {
	if command%2 == 0 {
		return p.server
	}
	return p.client
}

var commands = []string{"HELLO", "WELCOME", "INITIATE", "READY"}

// refused checks that m refuses cmd, sends nothing, and then refuses even right, the command that
// it would have accepted.
func refused(t *testing.T, m zmtp.Mechanism, cmd, right []byte) error {
	t.Helper()
	out, progress, err := m.Handshake(nil, cmd)
	if err == nil || progress != zmtp.ProgressContinue || len(out) > 0 {
		t.Fatalf("% x is accepted: %d, % x", cmd, progress, out)
	}
	for _, next := range [][]byte{right, nil} {
		if out, progress, again := m.Handshake(nil, next); again == nil ||
			progress != zmtp.ProgressContinue ||
			len(out) > 0 {
			t.Fatalf("the handshake goes on after %v", err)
		}
	}
	return err
}

func TestTruncatedCommandsAreRefused(t *testing.T) {
	for command, name := range commands {
		size := len(newPair(t, open).until(t, command))
		for n := range size {
			p := newPair(t, open)
			cmd := p.until(t, command)
			err := refused(t, p.taker(command), cmd[:n], cmd)
			if r := reasonOf(err); n > len(name) && !strings.HasPrefix(r.String(), "malformed") &&
				r != wire.Cryptographic {
				t.Errorf("%d bytes of %s: %v", n, name, err)
			}
		}
		p := newPair(t, open)
		cmd := p.until(t, command)
		refused(t, p.taker(command), append(bytes.Clone(cmd), 0), cmd)
	}
}

var open = zmtp.Auth{Open: true}

// Every bit counts except those of HELLO's padding.
func TestChangedCommandsAreRefused(t *testing.T) {
	for command := range commands {
		size := len(newPair(t, open).until(t, command))
		for at := range size {
			if command == 0 && at >= helloKey-helloZeros && at < helloKey {
				continue
			}
			if command == 0 && at == helloKey+KeySize-1 {
				continue // X25519 ignores the highest bit; a changed C' is refused later
			}
			p := newPair(t, open)
			cmd := p.until(t, command)
			bad := bytes.Clone(cmd)
			bad[at] ^= 1 << (at % 8)
			refused(t, p.taker(command), bad, cmd)
		}
	}
}

func TestGarbageIsRefused(t *testing.T) {
	garbage := [][]byte{
		{}, {0}, {1}, {255}, []byte("\x05READY"), []byte("\x05HELLO"), []byte("\x07WELCOME"),
		[]byte("\x08INITIATE"), []byte("\x07MESSAGE"),
		[]byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 200), bytes.Repeat([]byte{0xff}, 300),
		make([]byte, 10000),
	}
	for i, command := range commands {
		for _, other := range commands {
			if other != command {
				garbage = append(garbage,
					append([]byte{byte(len(other))}, other+strings.Repeat("x", 300)...))
			}
		}
		for _, g := range garbage {
			p := newPair(t, open)
			refused(t, p.taker(i), g, p.until(t, i))
		}
	}
}

// Every command is accepted once and in its order.
func TestCommandsAreAcceptedOnce(t *testing.T) {
	for command := range commands {
		for earlier := 0; earlier < command; earlier++ {
			p := newPair(t, open)
			replayed := p.until(t, 0)
			sides := []zmtp.Mechanism{p.server, p.client}
			cmd := replayed
			for i := range command {
				if i == earlier {
					replayed = cmd
				}
				out, _, err := sides[i%2].Handshake(nil, cmd)
				if err != nil {
					t.Fatal(err)
				}
				cmd = body(t, out)
			}
			if err := refused(t, p.taker(earlier), replayed,
				cmd); reasonOf(err) != wire.UnexpectedCommand {
				t.Errorf("%s again at %s: %v", commands[earlier], commands[command], err)
			}
		}
	}
}

// A client accepts an ERROR in place of each command. A server accepts none.
func TestErrorInTheHandshake(t *testing.T) {
	for command := range commands {
		p := newPair(t, open)
		cmd := p.until(t, command)
		err := refused(t, p.taker(command), body(t, wire.AppendError(nil, "400")), cmd)
		want, status := wire.PeerError, 400
		if command%2 == 0 {
			want, status = wire.UnexpectedCommand, 0
		}
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Reason != want || e.Status != status {
			t.Errorf("ERROR in place of %s: %v", commands[command], err)
		}
	}
	p := newPair(t, open)
	cmd := p.until(t, 1)
	if err := refused(t, p.client, []byte("\x05ERROR\x09400"),
		cmd); reasonOf(err) != wire.MalformedError {
		t.Error(err)
	}
}

// finish plays a whole handshake.
func (p pair) finish(t testing.TB) {
	t.Helper()
	if _, progress, err := p.client.Handshake(nil, p.until(t, 3)); err != nil ||
		progress != zmtp.ProgressReady {
		t.Fatalf("%d, %v", progress, err)
	}
}

func TestHandshake(t *testing.T) {
	serverKey, serverSecret := GenerateKeyPair()
	_, clientSecret := GenerateKeyPair()
	rapid.Check(t, func(rt *rapid.T) {
		metadata := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wire.Property {
			return wire.Property{Name: rapid.StringMatching(`X-[a-z]{0,20}`).Draw(t, "name"),
				Value: rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "value")}
		}), 0, 5)
		ofClient := append(slices.Clone(localMetadata), metadata.Draw(rt, "client's")...)
		ofServer := append(slices.Clone(localMetadata), metadata.Draw(rt, "server's")...)
		p := pair{newClient(t, serverKey, clientSecret).Mechanism(ofClient),
			newServer(t, open, serverSecret).Mechanism(ofServer)}
		p.finish(t)
		same := func(a, b wire.Metadata) bool {
			return bytes.Equal(wire.AppendMetadata(nil, a), wire.AppendMetadata(nil, b))
		}
		if !same(p.server.Metadata(), ofClient) || !same(p.client.Metadata(), ofServer) {
			rt.Fatal("the metadata differ")
		}
		checkTraffic(t, p)
	})
}

// checkTraffic sends a frame in each direction.
func checkTraffic(t testing.TB, p pair) {
	t.Helper()
	cs, co := p.client.Traffic()
	ss, so := p.server.Traffic()
	frame := wire.AppendFrame(nil, wire.More, []byte("text"))
	for range 2 {
		if b, err := so.Open(nil, cs.Seal(nil, frame)); err != nil || !bytes.Equal(b, frame) {
			t.Fatalf("client to server: % x, %v", b, err)
		}
		if b, err := co.Open(nil, ss.Seal(nil, frame)); err != nil || !bytes.Equal(b, frame) {
			t.Fatalf("server to client: % x, %v", b, err)
		}
	}
}

// While a server key is replaced, clients with the old key and clients with the new one get in.
func TestServerKeysOverlap(t *testing.T) {
	var secrets []Secret
	var publics []Key
	for range MaxServerKeys {
		k, s := GenerateKeyPair()
		publics, secrets = append(publics, k), append(secrets, s)
	}
	_, clientSecret := GenerateKeyPair()
	s := newServer(t, open, secrets...)
	for _, k := range publics {
		p := pair{newClient(t, k, clientSecret).Mechanism(localMetadata),
			s.Mechanism(localMetadata)}
		p.finish(t)
		checkTraffic(t, p)
	}
	without := newServer(t, open, secrets[1:]...)
	p := pair{newClient(t, publics[0], clientSecret).Mechanism(localMetadata),
		without.Mechanism(localMetadata)}
	if err := refused(t, p.server, p.until(t, 0), nil); reasonOf(err) != wire.Cryptographic {
		t.Error(err)
	}
}

// lowOrder contains encodings of points of small order (RFC 7748, section 7, and the list in
// https://cr.yp.to/ecdh.html).
func lowOrder() []Key {
	hex := []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	}
	var keys []Key
	for _, h := range hex {
		keys = append(keys, Key(zmtptest.Bytes(h)))
	}
	return keys
}

// sharedByAll returns the key of a box to or from a key of low order. Everybody knows it: X25519
// gives zeros.
func sharedByAll() *boxKey {
	var k boxKey
	box.Precompute((*[32]byte)(&k), new([32]byte), new([32]byte))
	return &k
}

func TestKeysOfLowOrderAreRefused(t *testing.T) {
	for _, k := range lowOrder() {
		_, secret := GenerateKeyPair()
		if _, err := NewClient(k, secret); err == nil {
			t.Errorf("client with the server key %x", k)
		}

		// a HELLO with a C' of low order, in a box that opens if X25519's zeros count as a secret
		nonce := appendNonce(nil, 1)
		hello := append([]byte(cmdHello), 1, 0)
		hello = append(append(append(hello, make([]byte, helloZeros)...), k[:]...), nonce...)
		hello = sharedByAll().seal(hello, nonceHello, nonce, make([]byte, helloText))
		if err := refused(t, newPair(t, open).server, hello,
			nil); reasonOf(err) != wire.Cryptographic {
			t.Errorf("C' %x: %v", k, err)
		}

		// a WELCOME of the server with an S' of low order; libzmq aborts on it
		public, secret := GenerateKeyPair()
		_, own := GenerateKeyPair()
		client := newClient(t, public, own).Mechanism(localMetadata)
		out, _, err := client.Handshake(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		toClient, err := newBoxKey(privateKey(secret[:]), body(t, out)[helloKey:helloNonce])
		if err != nil {
			t.Fatal(err)
		}
		long := make([]byte, longNonce)
		welcome := append([]byte(cmdWelcome), long...)
		welcome = toClient.seal(welcome, nonceWelcome, long,
			append(k[:], make([]byte, cookieSize)...))
		if err := refused(t, client, welcome, nil); reasonOf(err) != wire.Cryptographic {
			t.Errorf("S' %x: %v", k, err)
		}

		// an INITIATE with a C of low order, for which anybody could make the vouch
		p := newPair(t, open)
		initiate := p.forge(t, k, func(k *boxKey, vouched []byte) (*boxKey,
			[]byte) {
			return sharedByAll(), vouched
		})
		if err := refused(t, p.server, initiate, nil); reasonOf(err) != wire.Cryptographic {
			t.Errorf("C %x: %v", k, err)
		}
	}
}

// forge plays the handshake up to WELCOME. It returns an INITIATE of a client that claims the key
// public. change may replace the key and the content of the vouch.
func (p pair) forge(t *testing.T, public Key, change func(*boxKey, []byte) (*boxKey,
	[]byte)) []byte {
	t.Helper()
	welcome := p.until(t, 1)
	m := p.client.(*client)
	text, ok := m.welcome.open(nonceWelcome, welcome[welcomeNonce:welcomeBox], welcome[welcomeBox:])
	if !ok {
		t.Fatal("WELCOME does not open")
	}
	key := func(secret *ecdh.PrivateKey) *boxKey {
		k, err := newBoxKey(secret, text[:KeySize])
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	vouchKey, vouched := change(key(m.config.secret), slices.Concat(m.ephemeral.PublicKey().Bytes(),
		m.config.server[:]))
	nonce := make([]byte, longNonce)
	inside := vouchKey.seal(slices.Concat(public[:], nonce), nonceVouch, nonce, vouched)
	nonce = appendNonce(nil, 2)
	cmd := slices.Concat([]byte(cmdInitiate), text[KeySize:], nonce)
	return key(m.ephemeral).seal(cmd, nonceInitiate, nonce, inside)
}

func TestVouchIsChecked(t *testing.T) {
	_, other := GenerateKeyPair()
	otherKey, _ := GenerateKeyPair()
	for name, c := range map[string]struct {
		want   wire.Reason // ReasonNone: the vouch is right
		change func(k *boxKey, vouched []byte) (*boxKey, []byte)
	}{
		"right": {wire.ReasonNone, func(k *boxKey, v []byte) (*boxKey, []byte) { return k, v }},
		"other key": {wire.Cryptographic, func(k *boxKey, v []byte) (*boxKey,
			[]byte) {
			return (*boxKey)(&other), v
		}},
		"other C'": {wire.KeyExchange, func(k *boxKey, v []byte) (*boxKey, []byte) {
			return k,
				append(otherKey[:], v[KeySize:]...)
		}},
		"other S": {wire.KeyExchange, func(k *boxKey, v []byte) (*boxKey, []byte) {
			return k,
				append(v[:KeySize:KeySize], otherKey[:]...)
		}},
		"exchanged": {wire.KeyExchange, func(k *boxKey, v []byte) (*boxKey, []byte) {
			return k,
				slices.Concat(v[KeySize:], v[:KeySize])
		}},
		"of nothing": {wire.MalformedInitiate, func(k *boxKey, v []byte) (*boxKey, []byte) {
			return k,
				nil
		}},
	} {
		p := newPair(t, open)
		initiate := p.forge(t, p.client.(*client).config.public, c.change)
		if c.want != wire.ReasonNone {
			if err := refused(t, p.server, initiate, nil); reasonOf(err) != c.want {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		} else if _, progress, err := p.server.Handshake(nil, initiate); err != nil ||
			progress != zmtp.ProgressReady {
			t.Errorf("%s: %d, %v", name, progress, err)
		}
	}
}

// A client that has only somebody's public key does not get in with it, and the authenticator is
// not asked about it.
func TestPublicKeyAloneIsNotEnough(t *testing.T) {
	victim, _ := GenerateKeyPair()
	p := newPair(t, zmtp.Auth{Handler: zap.HandlerFunc(func(context.Context,
		*zap.Request) (zap.Reply,
		error) {
		t.Error("the authenticator was asked")
		return zap.Reply{Status: zap.StatusOK}, nil
	})})
	initiate := p.forge(t, victim, func(k *boxKey, v []byte) (*boxKey, []byte) { return k, v })
	if err := refused(t, p.server, initiate, nil); reasonOf(err) != wire.Cryptographic {
		t.Error(err)
	}
}

func TestAuthenticator(t *testing.T) {
	serverKey, serverSecret := GenerateKeyPair()
	clientKey, clientSecret := GenerateKeyPair()
	failure := errors.New("no connection to the database")
	for name, c := range map[string]struct {
		reply  zap.Reply
		err    error
		want   wire.Reason // ReasonNone: the client gets in
		answer string
	}{
		"200": {zap.Reply{Status: 200, UserID: "worker-1",
			Metadata: wire.AppendProperty(nil, "Role", []byte("worker"))}, nil, wire.ReasonNone,
			""},
		"300":       {zap.Reply{Status: 300}, nil, wire.AuthRefused, ""},
		"400":       {zap.Reply{Status: 400}, nil, wire.AuthRefused, "400"},
		"500":       {zap.Reply{Status: 500}, nil, wire.AuthRefused, "500"},
		"404":       {zap.Reply{Status: 404}, nil, wire.AuthUnavailable, ""},
		"no status": {zap.Reply{}, nil, wire.AuthUnavailable, ""},
		"error":     {zap.Reply{Status: 200}, failure, wire.AuthUnavailable, ""},
		"bad metadata": {zap.Reply{Status: 200, Metadata: []byte{1}}, nil, wire.AuthUnavailable,
			""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			auth := zmtp.Auth{Domain: "cluster", Handler: zap.HandlerFunc(func(_ context.Context,
				r *zap.Request) (zap.Reply, error) {
				asked++
				if r.Domain != "cluster" || r.Address != "192.0.2.1" || r.Mechanism != "CURVE" ||
					len(r.Credentials) != 1 || !bytes.Equal(r.Credentials[0], clientKey[:]) {
					t.Errorf("the authenticator is asked %+v", r)
				}
				return c.reply, c.err
			})}
			said := append(slices.Clone(localMetadata), wire.Property{Name: "user-id",
				Value: []byte("root")}, wire.Property{Name: "Role", Value: []byte("manager")})
			p := pair{newClient(t, serverKey, clientSecret).Mechanism(said),
				newServer(t, auth, serverSecret).Mechanism(localMetadata)}
			out, progress, err := p.server.Handshake(nil, p.until(t, 2))
			if err != nil || progress != zmtp.ProgressNeedsAuth || len(out) > 0 || asked != 0 {
				t.Fatalf("%d, %v, % x", progress, err, out)
			}
			out, progress, err = p.server.(zmtp.Authorizer).Authorize(t.Context(), nil,
				&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7})
			if asked != 1 {
				t.Errorf("the authenticator is asked %d times", asked)
			}
			if reasonOf(err) != c.want || (err == nil) != (progress == zmtp.ProgressReady) {
				t.Fatalf("%d, %v, want %v", progress, err, c.want)
			}
			if err != nil {
				var want []byte
				if c.answer != "" {
					want = wire.AppendError(nil, c.answer)
				}
				if !bytes.Equal(out, want) {
					t.Errorf("the answer is % x, want % x", out, want)
				}
				if !strings.Contains(err.Error(), clientKey.String()) {
					t.Errorf("the error does not name the client: %v", err)
				}
				if c.err != nil && !errors.Is(err, c.err) {
					t.Errorf("the error does not contain the authenticator's error: %v", err)
				}
				return
			}
			m := p.server.Metadata()
			for name, want := range map[string]string{"User-Id": "worker-1", "Role": "worker",
				"Socket-Type": "DEALER"} {
				if v, _ := m.Get(name); string(v) != want {
					t.Errorf("%s is %q, want %q", name, v, want)
				}
			}
			if _, progress, err := p.client.Handshake(nil, body(t, out)); err != nil ||
				progress != zmtp.ProgressReady {
				t.Fatal(err)
			}
			checkTraffic(t, p)
		})
	}
}

// A client cannot set its own User-Id, with and without an authenticator.
func TestClientsCannotSetTheirUserID(t *testing.T) {
	serverKey, serverSecret := GenerateKeyPair()
	_, clientSecret := GenerateKeyPair()
	for _, name := range []string{"User-Id", "USER-ID", "user-id"} {
		said := wire.Metadata{{Name: name, Value: []byte("root")}}
		p := pair{newClient(t, serverKey, clientSecret).Mechanism(said),
			newServer(t, open, serverSecret).Mechanism(nil)}
		p.finish(t)
		if v, ok := p.server.Metadata().Get(zmtp.PropUserID); ok {
			t.Errorf("%s: the client has the User-Id %q", name, v)
		}
	}
}

func TestNewServerFailsClosed(t *testing.T) {
	_, secret := GenerateKeyPair()
	if _, err := NewServer(zmtp.Auth{}, secret); err == nil ||
		!strings.Contains(err.Error(), "Open") {
		t.Errorf("a server without authenticator is made, error %v", err)
	}
	if _, err := NewServer(open); err == nil {
		t.Error("a server without a key is made")
	}
	if _, err := NewServer(open, make([]Secret, MaxServerKeys+1)...); err == nil {
		t.Error("a server with too many keys is made")
	}
}

// The secrets of a connection are cleared at the end of its handshake, whether it succeeds or
// fails.
func TestSecretsAreCleared(t *testing.T) {
	p := newPair(t, open)
	p.finish(t)
	c, s := p.client.(*client), p.server.(*server)
	keys := []*boxKey{c.welcome, c.traffic, s.traffic}
	p.client.Traffic()
	p.server.Traffic()
	failed := newPair(t, open)
	failed.until(t, 3)
	keys = append(keys, failed.client.(*client).traffic, failed.server.(*server).traffic)
	refused(t, failed.client, nil, nil)
	refused(t, failed.server, nil, nil)
	for i, k := range keys {
		if *k != (boxKey{}) {
			t.Errorf("key %d is not cleared", i)
		}
	}
	for _, p := range []pair{p, failed} {
		c, s := p.client.(*client), p.server.(*server)
		if c.ephemeral != nil || s.ephemeral != nil || c.welcome != nil || c.traffic != nil ||
			s.traffic != nil {
			t.Error("a short-term secret is still referred to")
		}
	}
}

// Thousands of handshakes that stop at any point take little memory each.
func TestHalfOpenHandshakesAreSmall(t *testing.T) {
	const n, limit = 2000, 2048
	serverKey, serverSecret := GenerateKeyPair()
	_, clientSecret := GenerateKeyPair()
	s, c := newServer(t, open, serverSecret), newClient(t, serverKey, clientSecret)
	kept := make([]zmtp.Mechanism, n)
	hello, _, err := c.Mechanism(localMetadata).Handshake(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range kept {
		kept[i] = s.Mechanism(localMetadata)
		if _, _, err := kept[i].Handshake(nil, body(t, hello)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; each > limit {
		t.Errorf("each handshake takes %d bytes, want at most %d", each, limit)
	}
	runtime.KeepAlive(kept)
}

func TestFramesAreBoundedBeforeTheyArrive(t *testing.T) {
	for command := range commands {
		p := newPair(t, open)
		cmd := p.until(t, command)
		limit := p.taker(command).(zmtp.FrameLimiter).MaxFrame()
		if int64(len(cmd)) > limit || limit > maxCommand || command < 2 && limit > 512 {
			t.Errorf("%s of %d bytes, limit %d", commands[command], len(cmd), limit)
		}
	}
}
