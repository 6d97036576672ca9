package curve

import (
	"crypto/ecdh"
	"encoding/binary"
	"errors"

	"zmtpd/curve/box"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Client is the client side of CURVE: it knows the server's public key and has its own key pair.
// The sockets of either side may listen or connect. A Client may be used by any number of sockets.
type Client struct {
	server Key
	public Key
	secret *ecdh.PrivateKey
	random random
	keyLog *KeyLog // nil for none
}

// NewClient returns the client side for a server's public key and the client's own secret key. It
// refuses a key of low order, such as all zeros, which no server has.
func NewClient(server Key, secret Secret) (*Client, error) {
	c := &Client{server: server, public: secret.Public(), secret: privateKey(secret[:]),
		random: systemRandom}
	if _, err := newBoxKey(c.secret, server[:]); err != nil {
		return nil, errors.New("curve: the server's public key cannot be used: it is of low order")
	}
	return c, nil
}

// WithKeyLog returns a Client with the same keys whose connections are in a key log; nil for none.
func (c *Client) WithKeyLog(l *KeyLog) *Client {
	other := *c
	other.keyLog = l
	return &other
}

// Mechanism is a [zmtp.Config.Mechanism].
func (c *Client) Mechanism(local wire.Metadata) zmtp.Mechanism {
	return &client{config: c, local: local}
}

// client is one connection's handshake.
type client struct {
	config *Client
	local  wire.Metadata

	state     state
	ephemeral *ecdh.PrivateKey // c'
	welcome   *boxKey          // C' with S, until WELCOME
	traffic   *boxKey          // C' with S'
	last      uint64           // nonce of the server's READY
	peer      wire.Metadata
}

// Name implements zmtp.Mechanism.
func (*client) Name() string { return "CURVE" }

// Metadata implements zmtp.Mechanism.
func (m *client) Metadata() wire.Metadata { return m.peer }

// MaxFrame implements zmtp.FrameLimiter.
func (m *client) MaxFrame() int64 {
	if m.state == wantReady {
		return maxCommand
	}
	return maxPlainCommand
}

// Handshake implements zmtp.Mechanism. It accepts each command once, and in its order.
func (m *client) Handshake(dst, cmd []byte) ([]byte, zmtp.Progress, error) {
	out, progress, err := m.step(dst, cmd)
	if err != nil {
		m.forget(ended)
	}
	return out, progress, err
}

func (m *client) step(dst, cmd []byte) ([]byte, zmtp.Progress, error) {
	if cmd == nil && m.state == start {
		dst, err := m.hello(dst)
		return dst, zmtp.ProgressContinue, err
	}
	name, data, err := wire.ParseCommand(cmd)
	if err != nil {
		return dst, zmtp.ProgressContinue, err
	}
	switch {
	case string(name) == cmdWelcome[1:] && m.state == wantWelcome:
		dst, err = m.initiate(dst, cmd)
		return dst, zmtp.ProgressContinue, err
	case string(name) == cmdReady[1:] && m.state == wantReady:
		if err := m.ready(cmd); err != nil {
			return dst, zmtp.ProgressContinue, err
		}
		return dst, zmtp.ProgressReady, nil
	case string(name) == wire.CmdError && (m.state == wantWelcome || m.state == wantReady):
		return dst, zmtp.ProgressContinue, wire.ErrorFromCommand(data)
	}
	return dst, zmtp.ProgressContinue, unexpected(name, m.state)
}

// hello appends HELLO.
func (m *client) hello(dst []byte) ([]byte, error) {
	secret := m.config.random.bytes(KeySize)
	m.ephemeral = privateKey(secret)
	clear(secret)
	var err error
	if m.welcome, err = newBoxKey(m.ephemeral, m.config.server[:]); err != nil {
		return dst, err
	}
	nonce := appendNonce(nil, 1)
	data := append(make([]byte, 0, helloSize), 1, 0) // the version
	data = append(data, make([]byte, helloZeros)...)
	data = append(data, m.ephemeral.PublicKey().Bytes()...)
	data = append(data, nonce...)
	data = m.welcome.seal(data, nonceHello, nonce, make([]byte, helloText))
	m.state = wantWelcome
	return appendCommand(dst, cmdHello, data), nil
}

// initiate takes WELCOME and appends INITIATE.
func (m *client) initiate(dst, cmd []byte) ([]byte, error) {
	if len(cmd) != welcomeSize {
		return dst, wire.Errorf(wire.MalformedWelcome, "WELCOME of %d bytes, want %d", len(cmd),
			welcomeSize)
	}
	text, ok := m.welcome.open(nonceWelcome, cmd[welcomeNonce:welcomeBox], cmd[welcomeBox:])
	if !ok {
		return dst, wire.Errorf(wire.Cryptographic,
			"WELCOME cannot be opened: the server has another key than the client was given")
	}
	server, cookie := text[:KeySize], text[KeySize:]
	var err error
	if m.traffic, err = newBoxKey(m.ephemeral, server); err != nil {
		return dst, err
	}
	m.config.keyLog.note(m.ephemeral.PublicKey().Bytes(), m.traffic)
	vouchKey, err := newBoxKey(m.config.secret, server)
	if err != nil {
		return dst, err
	}
	defer clear(vouchKey[:])
	nonce := m.config.random.bytes(longNonce)
	vouched := append(m.ephemeral.PublicKey().Bytes(), m.config.server[:]...)

	text = append(make([]byte, 0, 256), m.config.public[:]...)
	text = append(text, nonce...)
	text = vouchKey.seal(text, nonceVouch, nonce, vouched)
	text = wire.AppendMetadata(text, m.local)

	nonce = appendNonce(nil, 2)
	data := append(make([]byte, 0, initiateSize+len(text)), cookie...)
	data = append(data, nonce...)
	data = m.traffic.seal(data, nonceInitiate, nonce, text)
	m.state = wantReady
	return appendCommand(dst, cmdInitiate, data), nil
}

// ready takes READY.
func (m *client) ready(cmd []byte) error {
	if len(cmd) < readySize {
		return wire.Errorf(wire.MalformedReady, "READY of %d bytes, the shortest has %d", len(cmd),
			readySize)
	}
	nonce := cmd[readyNonce:readyBox]
	text, ok := m.traffic.open(nonceReady, nonce, cmd[readyBox:])
	if !ok {
		return wire.Errorf(wire.Cryptographic, "READY cannot be opened")
	}
	m.last = binary.BigEndian.Uint64(nonce)
	var err error
	if m.peer, err = wire.ParsePeerMetadata(text); err != nil {
		return err
	}
	m.state = ready
	return nil
}

// Traffic implements zmtp.Mechanism. It clears the secrets of the handshake.
func (m *client) Traffic() (zmtp.Sealer, zmtp.Opener) {
	if m.state != ready {
		panic("curve: Traffic before the handshake is ready")
	}
	shared := (*[32]byte)(m.traffic)
	s, o := box.NewSealer(shared, box.FromClient, 3), box.NewOpener(shared, box.FromServer, m.last)
	m.forget(ended)
	return s, o
}

// forget clears the secrets of the connection, except for copies inside crypto/ecdh.
func (m *client) forget(next state) {
	m.state = next
	m.ephemeral = nil
	wipe(&m.welcome)
	wipe(&m.traffic)
}
