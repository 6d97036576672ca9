// Package zmtp is ZeroMQ in pure Go: sockets that speak ZMTP 3.1 (RFC 37) with libzmq and with each
// other.
//
// # Use
//
// Make a socket, connect it or let it listen, send and receive, and shut it down:
//
//	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
//	if err := push.Connect("tcp://127.0.0.1:5557"); err != nil { ... }
//	err := push.Send(ctx, zmtp.NewMessageString("hello", "world"))
//	err = push.Shutdown(ctx) // sends what is queued, as long as ctx allows
//
// There is one type for each socket type, with only the methods that make sense for it:
//
//   - [Req] sends a request to a [Rep] and receives its reply (RFC 28).
//   - [Dealer] and [Router] do the same without taking turns: a Dealer sends to its peers one after
//     the other, a Router to the one whose routing id it is given.
//   - [Pair] talks to one other Pair (RFC 31).
//   - [Push] gives each message to one [Pull]: a pipeline (RFC 30).
//   - [Pub] gives each message to every [Sub] that has subscribed it (RFC 29).
//   - [XPub] and [XSub] do the same and show the subscriptions, as brokers need.
//
// libzmq's newer types are [Client] and [Server], [Scatter] and [Gather], [Radio] and [Dish],
// [PeerSocket] and [Channel]. [Stream] talks to programs that do not speak ZMTP.
//
// Options that several types have are in [Config], whose zero value works; those of one type are in
// the options of its constructor.
//
// # Sending and receiving
//
// All methods may be called from any goroutine at any time. Each method that may wait takes a
// context and has a twin that does not wait and returns [ErrWouldBlock]:
//
//	Send(ctx, m)       TrySend(m)         one message
//	SendBatch(ctx, b)  TrySendBatch(b)    several, for less CPU time a message; see BatchBuilder
//	Recv(ctx)          TryRecv()          one message, which owns its memory
//	RecvBatch(ctx)     TryRecvBatch()     what came together from one peer; to be released
//
// A [Message] has one or more parts and is sent and received whole. It is immutable.
//
// Queues are bounded in messages (the high-water marks of ZeroMQ) and in bytes. A Push, Dealer or
// Req without room waits; a Pub drops for the subscriber without room, and counts it, as a Router
// does. A socket that does not receive
// stops the reading from its peers, which then wait or drop. [Socket.Stats] says what became of all
// messages.
//
// # Connections
//
// [Socket.Listen] and [Socket.Connect] take tcp, ipc and inproc endpoints, and those
// of [Config.Transports]. Connect works in the background and again when a connection is lost, so the
// order in which programs start does not matter. [Config.Logger] gets what an operator should know;
// [Socket.Monitor] gives all events, [Socket.Peers] the state of each connection.
//
// # Security
//
// [Config.Mechanism] is NULL by default: no encryption, everybody may connect. [PlainServer] and
// [PlainClient] send a name and a password in clear. Package zmtpd/curve has CURVE, which encrypts
// and authenticates. [Auth] decides which clients come in, with a handler of package
// zmtpd/zmtp/zap.
//
// # New socket types
//
// [NewSocket] makes a socket for a [Pattern] of the caller: what a socket type does with its peers.
// DESIGN.md describes how the package works inside.
package zmtp
