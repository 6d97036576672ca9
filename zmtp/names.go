package zmtp

import "zmtpd/zmtp/wire"

// Names of package wire that users of sockets need.
type (
	// Reason says why a connection ended, or never came up.
	Reason = wire.Reason
	// SocketType is the type of a socket, as it stands in the handshake.
	SocketType = wire.SocketType
	// Metadata are the properties that one side of a connection says of itself.
	Metadata = wire.Metadata
	// Property is one of the Metadata.
	Property = wire.Property
)

// The socket types, for [NewSocket] and [Peer.SocketType].
const (
	REQ     = wire.REQ
	REP     = wire.REP
	DEALER  = wire.DEALER
	ROUTER  = wire.ROUTER
	PUB     = wire.PUB
	SUB     = wire.SUB
	XPUB    = wire.XPUB
	XSUB    = wire.XSUB
	PUSH    = wire.PUSH
	PULL    = wire.PULL
	PAIR    = wire.PAIR
	CLIENT  = wire.CLIENT
	SERVER  = wire.SERVER
	RADIO   = wire.RADIO
	DISH    = wire.DISH
	SCATTER = wire.SCATTER
	GATHER  = wire.GATHER
	PEER    = wire.PEER
	CHANNEL = wire.CHANNEL
)
