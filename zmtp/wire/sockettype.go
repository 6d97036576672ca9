package wire

import "slices"

// SocketType is the value of the Socket-Type property.
type SocketType string

// The socket types of libzmq that speak ZMTP.
const (
	REQ     SocketType = "REQ"
	REP     SocketType = "REP"
	DEALER  SocketType = "DEALER"
	ROUTER  SocketType = "ROUTER"
	PUB     SocketType = "PUB"
	SUB     SocketType = "SUB"
	XPUB    SocketType = "XPUB"
	XSUB    SocketType = "XSUB"
	PUSH    SocketType = "PUSH"
	PULL    SocketType = "PULL"
	PAIR    SocketType = "PAIR"
	CLIENT  SocketType = "CLIENT"
	SERVER  SocketType = "SERVER"
	RADIO   SocketType = "RADIO"
	DISH    SocketType = "DISH"
	SCATTER SocketType = "SCATTER"
	GATHER  SocketType = "GATHER"
	PEER    SocketType = "PEER"
	CHANNEL SocketType = "CHANNEL"
)

// accepted is the matrix of libzmq's mechanism_t::check_socket_type. For the classic types RFC 37
// has the same.
var accepted = map[SocketType][]SocketType{
	REQ: {REP, ROUTER}, REP: {REQ, DEALER},
	DEALER: {REP, DEALER, ROUTER}, ROUTER: {REQ, DEALER, ROUTER},
	PUSH: {PULL}, PULL: {PUSH},
	PUB: {SUB, XSUB}, XPUB: {SUB, XSUB}, SUB: {PUB, XPUB}, XSUB: {PUB, XPUB},
	PAIR: {PAIR}, CLIENT: {SERVER}, SERVER: {CLIENT},
	RADIO: {DISH}, DISH: {RADIO}, SCATTER: {GATHER}, GATHER: {SCATTER},
	PEER: {PEER}, CHANNEL: {CHANNEL},
}

// Accepts reports whether a socket of type t may talk to one of type peer.
func (t SocketType) Accepts(peer SocketType) bool { return slices.Contains(accepted[t], peer) }

// HasIdentity reports whether t sends its Identity property even when it is empty, as in libzmq.
func (t SocketType) HasIdentity() bool { return t == REQ || t == DEALER || t == ROUTER }

// WantsIdentity reports whether t uses the identity of its peers, which then has to obey RFC 37.
func (t SocketType) WantsIdentity() bool { return t == ROUTER || t == REP }
