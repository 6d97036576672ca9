package curve

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/nacl/secretbox"

	"zmtpd/curve/box"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// MaxServerKeys is the largest number of keys of a server. Each costs a multiplication on the curve
// for each HELLO.
const MaxServerKeys = 8

// Server is the server side of CURVE. The sockets of either side may listen or connect. A Server
// may be used by any number of sockets. Its keys do not change: to change keys, set
// [zmtp.Config.Mechanism] to a function that calls the current Server. Existing connections keep
// their keys.
type Server struct {
	auth    zmtp.Auth
	limiter *Limiter
	keyLog  *KeyLog // nil for none
	keys    []*ecdh.PrivateKey
	random  random
}

// NewServer returns the server side with one or more secret keys. Clients may know any of them, so
// that a key can be replaced. auth decides about clients by their public key, the only credential
// of a [zap.Request]. A refused client gets ERROR for the same status codes as from libzmq, and the
// connection is closed at once. An auth without a Handler and without Open would admit no client,
// and is an error.
//
// The Server has a [Limiter] of [DefaultHandshakeRate]; [Server.WithLimiter] gives it another one.
func NewServer(auth zmtp.Auth, secrets ...Secret) (*Server, error) {
	if auth.Handler == nil && !auth.Open {
		return nil,
			errors.New("curve: nothing decides about clients: set Handler, or Open to admit all" +
				" clients that know the server's public key")
	}
	if len(secrets) == 0 || len(secrets) > MaxServerKeys {
		return nil, fmt.Errorf("curve: %d server keys, want 1 to %d", len(secrets), MaxServerKeys)
	}
	s := &Server{auth: auth, limiter: NewLimiter(DefaultHandshakeRate), random: systemRandom}
	for i := range secrets {
		s.keys = append(s.keys, privateKey(secrets[i][:]))
	}
	return s, nil
}

// WithLimiter returns a Server with the same keys whose handshakes l limits. The servers of a
// process should share one Limiter.
func (s *Server) WithLimiter(l *Limiter) *Server {
	other := *s
	other.limiter = l
	return &other
}

// WithKeyLog returns a Server with the same keys whose connections are in a key log; nil for none.
func (s *Server) WithKeyLog(l *KeyLog) *Server {
	other := *s
	other.keyLog = l
	return &other
}

// Mechanism is a [zmtp.Config.Mechanism].
func (s *Server) Mechanism(local wire.Metadata) zmtp.Mechanism {
	return &server{config: s, local: local, state: wantHello}
}

// server is the handshake of one connection. Like libzmq it keeps state between HELLO and INITIATE:
// a secret key, the peer's public key and the cookie. So a cookie is worthless on other
// connections.
type server struct {
	config *Server
	local  wire.Metadata

	address   net.Addr // of the client, since HELLO
	state     state
	key       *ecdh.PrivateKey // s, of the server keys the one that the client knows
	peerKey   Key              // C'
	ephemeral *ecdh.PrivateKey // s'
	cookie    [cookieSize]byte
	last      uint64  // nonce of the client's last command
	client    Key     // C
	traffic   *boxKey // C' with S'
	raw       []byte  // HELLO until its turn, then the client's metadata until it is let in
	peer      wire.Metadata
}

// Name implements zmtp.Mechanism.
func (*server) Name() string { return "CURVE" }

// Metadata implements zmtp.Mechanism: the properties from the authenticator, then those of the
// client.
func (m *server) Metadata() wire.Metadata { return m.peer }

// MaxFrame implements zmtp.FrameLimiter.
func (m *server) MaxFrame() int64 {
	if m.state == wantInitiate {
		return maxCommand
	}
	return maxPlainCommand
}

// Handshake implements zmtp.Mechanism. The order of the checks is libzmq's. A failed check closes
// the connection without an ERROR.
func (m *server) Handshake(dst, cmd []byte) ([]byte, zmtp.Progress, error) {
	if cmd == nil && m.state == wantHello {
		return dst, zmtp.ProgressContinue, nil
	}
	out, progress, err := m.step(dst, cmd)
	if err != nil {
		m.forget(ended)
	}
	return out, progress, err
}

func (m *server) step(dst, cmd []byte) ([]byte, zmtp.Progress, error) {
	name, _, err := wire.ParseCommand(cmd)
	if err != nil {
		return dst, zmtp.ProgressContinue, err
	}
	switch {
	case string(name) == cmdHello[1:] && m.state == wantHello:
		if err := checkHello(cmd); err != nil {
			return dst, zmtp.ProgressContinue, err
		}
		if m.config.limiter.unlimited() {
			m.config.limiter.started.Add(1)
			dst, err = m.hello(dst, cmd)
			return dst, zmtp.ProgressContinue, err
		}
		m.raw = bytes.Clone(cmd)
		m.state = wantTurn
		return dst, zmtp.ProgressNeedsAuth, nil
	case string(name) == cmdInitiate[1:] && m.state == wantInitiate:
		if err := m.initiate(cmd); err != nil {
			return dst, zmtp.ProgressContinue, err
		}
		if m.config.auth.Handler == nil {
			return m.finish(dst, nil) // Open. Data may follow INITIATE at once
		}
		m.state = wantAnswer
		return dst, zmtp.ProgressNeedsAuth, nil
	}
	return dst, zmtp.ProgressContinue, unexpected(name, m.state)
}

// checkHello makes the checks that need no computation.
func checkHello(cmd []byte) error {
	if len(cmd) != helloSize {
		return wire.Errorf(wire.MalformedHello, "HELLO of %d bytes, want %d", len(cmd), helloSize)
	}
	if version := cmd[len(cmdHello):]; version[0] != 1 || version[1] != 0 {
		return wire.Errorf(wire.MalformedHello, "HELLO of CurveZMQ version %d.%d, want 1.0",
			version[0],
			version[1])
	}
	return nil
}

// hello takes a checked HELLO and appends WELCOME.
func (m *server) hello(dst, cmd []byte) ([]byte, error) {
	m.peerKey = Key(cmd[helloKey:])
	nonce := cmd[helloNonce:helloBox]
	m.last = binary.BigEndian.Uint64(nonce)
	welcome, err := m.findKey(nonce, cmd[helloBox:])
	if err != nil {
		return dst, err
	}
	defer clear(welcome[:])

	secret := m.config.random.bytes(KeySize)
	defer clear(secret)
	m.ephemeral = privateKey(secret)
	m.config.limiter.computed.Add(1) // its public key, below
	// The cookie is never opened: the one in INITIATE is compared with it.
	cookieKey := m.config.random.bytes(KeySize)
	defer clear(cookieKey)
	cookie := m.config.random.bytes(longNonce)
	inside := append(m.peerKey[:], secret...)
	defer clear(inside)
	cookie = secretbox.Seal(cookie, inside, boxNonce(nonceCookie, cookie), (*[32]byte)(cookieKey))
	m.cookie = [cookieSize]byte(cookie)

	data := m.config.random.bytes(longNonce)
	text := append(m.ephemeral.PublicKey().Bytes(), cookie...)
	data = welcome.seal(data, nonceWelcome, data, text)
	m.state = wantInitiate
	return appendCommand(dst, cmdWelcome, data), nil
}

// findKey finds the server key for which the client has sealed its HELLO. The content of the box
// does not matter.
func (m *server) findKey(nonce, box []byte) (*boxKey, error) {
	for _, key := range m.config.keys {
		k, err := m.boxKey(key, m.peerKey[:])
		if err != nil {
			return nil, err
		}
		if _, ok := k.open(nonceHello, nonce, box); ok {
			m.key = key
			return k, nil
		}
		clear(k[:])
	}
	return nil, wire.Errorf(wire.Cryptographic,
		"HELLO cannot be opened: the client has the key of another server")
}

func (m *server) boxKey(secret *ecdh.PrivateKey, public []byte) (*boxKey, error) {
	m.config.limiter.computed.Add(1)
	return newBoxKey(secret, public)
}

// initiate takes INITIATE. It checks that the client has the secret key of C, and that it has made
// this connection to this server.
func (m *server) initiate(cmd []byte) error {
	if len(cmd) < initiateSize {
		return wire.Errorf(wire.MalformedInitiate, "INITIATE of %d bytes, the shortest has %d",
			len(cmd),
			initiateSize)
	}
	if subtle.ConstantTimeCompare(cmd[initiateCookie:initiateNonce], m.cookie[:]) != 1 {
		return wire.Errorf(wire.Cryptographic, "INITIATE with the cookie of another connection")
	}
	var err error
	if m.traffic, err = m.boxKey(m.ephemeral, m.peerKey[:]); err != nil {
		return err
	}
	nonce := cmd[initiateNonce:initiateBox]
	text, ok := m.traffic.open(nonceInitiate, nonce, cmd[initiateBox:])
	if !ok {
		return wire.Errorf(wire.Cryptographic, "INITIATE cannot be opened")
	}
	m.config.keyLog.note(m.peerKey[:], m.traffic)
	// libzmq does not check this. A nonce must not be used twice with one key.
	n := binary.BigEndian.Uint64(nonce)
	if n <= m.last {
		return wire.Errorf(wire.InvalidSequence,
			"nonce %d of INITIATE is not above %d, that of HELLO", n,
			m.last)
	}
	m.last = n
	m.client = Key(text)
	vouch, metadata := text[KeySize:KeySize+vouchSize], text[KeySize+vouchSize:]

	vouchKey, err := m.boxKey(m.ephemeral, m.client[:])
	if err != nil {
		return err
	}
	defer clear(vouchKey[:])
	vouched, ok := vouchKey.open(nonceVouch, vouch[:longNonce], vouch[longNonce:])
	if !ok {
		return wire.Errorf(wire.Cryptographic,
			"the vouch cannot be opened: the client does not have the secret key of %v",
			m.client)
	}
	// libzmq compares C' only. The comparison of S keeps a server from using the vouch of its
	// client with another server (RFC 26).
	forServer := subtle.ConstantTimeCompare(vouched[KeySize:], m.key.PublicKey().Bytes())
	if forServer&subtle.ConstantTimeCompare(vouched[:KeySize], m.peerKey[:]) != 1 {
		return wire.Errorf(wire.KeyExchange,
			"the vouch is of another connection or for another server")
	}
	m.raw = metadata
	m.ephemeral = nil
	return nil
}

// Authorize implements zmtp.Authorizer.
func (m *server) Authorize(ctx context.Context, dst []byte, peer net.Addr) ([]byte, zmtp.Progress,
	error) {
	m.address = peer
	switch m.state {
	case wantTurn:
		return m.turn(ctx, dst)
	case wantAnswer:
		return m.answer(ctx, dst)
	}
	panic("curve: Authorize without NeedsAuth")
}

// turn waits until the limiter lets the handshake begin, and answers HELLO.
func (m *server) turn(ctx context.Context, dst []byte) ([]byte, zmtp.Progress, error) {
	hello := m.raw
	m.raw = nil
	err := m.config.limiter.wait(ctx, m.address, len(m.config.keys)-1+handshakeCost)
	if err == nil {
		dst, err = m.hello(dst, hello)
	}
	if err != nil {
		m.forget(ended)
	}
	return dst, zmtp.ProgressContinue, err
}

// answer asks the authenticator.
func (m *server) answer(ctx context.Context, dst []byte) ([]byte, zmtp.Progress, error) {
	known, status, err := m.config.auth.Ask(ctx, m.address, m.Name(), m.client[:])
	if err == nil {
		return m.finish(dst, known)
	}
	m.forget(ended)
	if status != "" {
		dst = wire.AppendError(dst, status)
	}
	return dst, zmtp.ProgressContinue, fmt.Errorf("client key %v: %w", m.client, err)
}

// finish appends READY. Like libzmq it parses the client's metadata only now.
func (m *server) finish(dst []byte, known wire.Metadata) ([]byte, zmtp.Progress, error) {
	peer, err := wire.ParsePeerMetadata(m.raw)
	m.raw = nil
	if err != nil {
		m.forget(ended)
		return dst, zmtp.ProgressContinue, err
	}
	m.peer = append(known, peer...)
	nonce := appendNonce(nil, 1)
	data := m.traffic.seal(nonce, nonceReady, nonce, wire.AppendMetadata(nil, m.local))
	m.state = ready
	m.config.limiter.admitted(m.address)
	return appendCommand(dst, cmdReady, data), zmtp.ProgressReady, nil
}

// Traffic implements zmtp.Mechanism. It clears the secrets of the handshake.
func (m *server) Traffic() (zmtp.Sealer, zmtp.Opener) {
	if m.state != ready {
		panic("curve: Traffic before the handshake is ready")
	}
	shared := (*[32]byte)(m.traffic)
	s, o := box.NewSealer(shared, box.FromServer, 2), box.NewOpener(shared, box.FromClient, m.last)
	m.forget(ended)
	return s, o
}

// forget clears the secrets of the connection, except for copies inside crypto/ecdh.
func (m *server) forget(next state) {
	m.state = next
	m.ephemeral = nil
	m.raw = nil
	wipe(&m.traffic)
}

// wipe clears a key and sets the pointer to nil.
func wipe(k **boxKey) {
	if *k != nil {
		clear((*k)[:])
		*k = nil
	}
}
