package zmtp

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"zmtpd/zmtp/wire"
)

// The commands of PLAIN (RFC 24).
const (
	cmdHello    = "HELLO"
	cmdWelcome  = "WELCOME"
	cmdInitiate = "INITIATE"

	// plainError is the name of ERROR in PLAIN as libzmq has sent and understood it since 4.3.0: in
	// place of the length of the name there is 0x5e.
	plainError = "\x5eRROR"
)

// PlainClient is the client side of PLAIN (RFC 24): a name and a password of at most 255 bytes
// each, which are sent in clear.
type PlainClient struct {
	User, Password string
}

// Mechanism implements Config.Mechanism.
func (c *PlainClient) Mechanism(local Metadata) Mechanism {
	return &plainClient{credentials: *c, local: local}
}

// PlainServer is the server side of PLAIN (RFC 24). Its authenticator gets name and password.
type PlainServer struct {
	Auth
}

// Mechanism implements Config.Mechanism.
func (s *PlainServer) Mechanism(local Metadata) Mechanism {
	return &plainServer{auth: &s.Auth, local: local}
}

type plainState uint8

const (
	plainStart plainState = iota
	plainHello            // the client has sent HELLO; the server waits for it
	plainInitiate
)

type plainClient struct {
	credentials PlainClient
	local, peer Metadata
	state       plainState
}

func (*plainClient) Name() string              { return "PLAIN" }
func (m *plainClient) Metadata() Metadata      { return m.peer }
func (*plainClient) Traffic() (Sealer, Opener) { return nil, nil }

func (m *plainClient) Handshake(dst, cmd []byte) ([]byte, Progress, error) {
	if cmd == nil {
		c := m.credentials
		if len(c.User) > 255 || len(c.Password) > 255 {
			return dst, ProgressContinue,
				fmt.Errorf("zmtp: PLAIN: user and password may have at most 255 bytes each")
		}
		data := append([]byte{byte(len(c.User))}, c.User...)
		data = append(append(data, byte(len(c.Password))), c.Password...)
		m.state = plainHello
		return wire.AppendCommand(dst, cmdHello, data), ProgressContinue, nil
	}
	name, data, err := parsePlain(cmd)
	if err != nil {
		return dst, ProgressContinue, err
	}
	switch {
	case name == wire.CmdError:
		return dst, ProgressContinue, wire.ErrorFromCommand(data)
	case name == cmdWelcome && m.state == plainHello:
		if len(data) != 0 {
			return dst, ProgressContinue, wire.Errorf(wire.MalformedWelcome,
				"WELCOME with %d bytes too much", len(data))
		}
		m.state = plainInitiate
		return wire.AppendCommand(dst, cmdInitiate, wire.AppendMetadata(nil, m.local)), ProgressContinue,
			nil
	case name == wire.CmdReady && m.state == plainInitiate:
		m.peer, err = wire.ParsePeerMetadata(data)
		return dst, ProgressReady, err
	}
	return dst, ProgressContinue, wire.Errorf(wire.UnexpectedCommand,
		"%.16q in the PLAIN handshake of a client", name)
}

type plainServer struct {
	auth           *Auth
	local          Metadata
	peer, zap      Metadata
	user, password []byte // until Authorize
	state          plainState
}

func (*plainServer) Name() string              { return "PLAIN" }
func (m *plainServer) Metadata() Metadata      { return append(m.zap, m.peer...) }
func (*plainServer) Traffic() (Sealer, Opener) { return nil, nil }

func (m *plainServer) Handshake(dst, cmd []byte) ([]byte, Progress, error) {
	if cmd == nil {
		m.state = plainHello
		return dst, ProgressContinue, nil
	}
	name, data, err := parsePlain(cmd)
	if err != nil {
		return dst, ProgressContinue, err
	}
	switch {
	case name == cmdHello && m.state == plainHello:
		user, rest, ok := cutShort(data)
		password, rest, ok2 := cutShort(rest)
		if !ok || !ok2 || len(rest) != 0 {
			return dst, ProgressContinue, wire.Errorf(wire.MalformedHello,
				"HELLO is not exactly a user and a password")
		}
		m.user, m.password = append([]byte{}, user...), append([]byte{}, password...)
		return dst, ProgressNeedsAuth, nil
	case name == cmdInitiate && m.state == plainInitiate:
		if m.peer, err = wire.ParsePeerMetadata(data); err != nil {
			return dst, ProgressContinue, err
		}
		return wire.AppendCommand(dst, wire.CmdReady, wire.AppendMetadata(nil, m.local)), ProgressReady, nil
	}
	return dst, ProgressContinue, wire.Errorf(wire.UnexpectedCommand,
		"%.16q in the PLAIN handshake of a server", name)
}

// Authorize implements Authorizer. WELCOME tells the client that it is admitted.
func (m *plainServer) Authorize(ctx context.Context, dst []byte, peer net.Addr) ([]byte, Progress,
	error) {
	zap, status, err := m.auth.Ask(ctx, peer, m.Name(), m.user, m.password)
	clear(m.password)
	if err != nil {
		if status != "" {
			dst = wire.AppendFrame(dst, wire.Command, append([]byte(plainError+"\x03"), status...))
		}
		return dst, ProgressContinue, err
	}
	m.zap, m.state = zap, plainInitiate
	return wire.AppendCommand(dst, cmdWelcome, nil), ProgressContinue, nil
}

// parsePlain is wire.ParseCommand for both forms of ERROR.
func parsePlain(cmd []byte) (name string, data []byte, err error) {
	if rest, ok := bytes.CutPrefix(cmd, []byte(plainError)); ok {
		return wire.CmdError, rest, nil
	}
	n, data, err := wire.ParseCommand(cmd)
	return string(n), data, err
}

// cutShort cuts a string with one byte of length off b.
func cutShort(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 || len(b)-1 < int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}
