// Package zmtp is ZeroMQ in pure Go: sockets that speak ZMTP 3.1 (RFC 37) with libzmq and with each
// other.
//
// # Use
//
// Make a socket, connect it or let it listen, send and receive, and close it. A request and its
// reply, without the checks of errors:
//
//	req := zmtp.NewReq(zmtp.Config{})
//	defer req.Close()
//	err := req.Connect("tcp://localhost:5555")
//	err = req.Send(ctx, zmtp.NewMessageString("hello"))
//	reply, err := req.Recv(ctx)
//
// Close drops what is still queued. To send it first, end with Shutdown, which waits as long as its
// context allows:
//
//	push := zmtp.NewPush(zmtp.Config{SendHWM: 10_000}, zmtp.PushOptions{Immediate: true})
//	err := push.Connect("tcp://localhost:5557")
//	err = push.Send(ctx, zmtp.NewMessageString("hello", "world"))
//	err = push.Shutdown(ctx)
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
// Options that several types have are in [Config], whose zero value works. A type with options of
// its own takes them as the second argument of its constructor, such as [ReqOptions]; to leave them
// out is libzmq's default.
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
// does. A socket that does not receive stops the reading from its peers, which then wait or drop.
// [Socket.Stats] says what became of all messages.
//
// # Connections
//
// [Socket.Listen] and [Socket.Connect] take tcp, ipc and inproc endpoints, and those of
// [Config.Transports]. Connect works in the background and again when a connection is lost, so the
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
// # Compared with libzmq
//
// There is no context object and no thread that does I/O: each connection has two goroutines.
// zmq_bind is [Socket.Listen], zmq_close with a linger period is [Socket.Shutdown], zmq_poll is
// [Poller] or a goroutine for each socket, and EAGAIN, ETERM, EFSM and EHOSTUNREACH are
// [ErrWouldBlock], [ErrClosed], [ErrState] and [ErrNoPeer]. The options of libzmq are named in the
// comments of the fields that correspond to them. docs/migration.md has a table for programs that
// use other Go packages.
//
// # Extending the package
//
// Programs that only use sockets need none of the following. To add
//
//   - a socket type, implement [Pattern], and [CommandHandler] if its peers send commands. It gets
//     [Peer] and [Batch] values, and [NewSocket] makes the socket.
//   - a transport, implement [Transport], with [Session] if it has no ZMTP greeting and
//     [QueuedConn] if its connections are none of package net or crypto/tls, and give it in
//     [Config.Transports].
//   - a security mechanism, implement [Mechanism], with [Authorizer] and [FrameLimiter] where they
//     apply, and [Sealer] and [Opener] if it protects the frames.
//
// DESIGN.md describes how the package works inside.
package zmtp
