package zmtp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"zmtpd/zmtp"
)

// must keeps the examples short: a program returns the error.
func must(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		panic(err)
	}
}

// A request and its reply.
func ExampleReq() {
	ctx := context.Background()
	rep, req := zmtp.NewRep(zmtp.Config{}), zmtp.NewReq(zmtp.Config{})
	defer rep.Close()
	defer req.Close()
	endpoint, err := rep.Listen("tcp://127.0.0.1:*")
	must(err, req.Connect(endpoint))

	must(req.Send(ctx, zmtp.NewMessageString("hello")))
	request, err := rep.Recv(ctx)
	must(err, rep.Send(ctx, zmtp.NewMessageString("you said "+string(request.Part(0)))))
	reply, err := req.Recv(ctx)
	must(err)
	fmt.Println(reply)
	// Output: ["you said hello"]
}

// A ROUTER answers a DEALER by its routing id, which is the first part of what it receives.
func ExampleRouter() {
	ctx := context.Background()
	router := zmtp.NewRouter(zmtp.Config{}, zmtp.RouterOptions{Mandatory: true})
	dealer := zmtp.NewDealer(zmtp.Config{RoutingID: []byte("alice")})
	defer router.Close()
	defer dealer.Close()
	endpoint, err := router.Listen("tcp://127.0.0.1:*")
	must(err, dealer.Connect(endpoint))

	must(dealer.Send(ctx, zmtp.NewMessageString("hello")))
	m, err := router.Recv(ctx)
	must(err)
	fmt.Println(m)
	id, _ := m.CutPart()
	must(router.Send(ctx, zmtp.NewMessage(id, []byte("welcome"))))
	m, err = dealer.Recv(ctx)
	must(err)
	fmt.Println(m)
	err = router.Send(ctx, zmtp.NewMessageString("bob", "are you there?"))
	fmt.Println(errors.Is(err, zmtp.ErrNoPeer))
	// Output:
	// ["alice" "hello"]
	// ["welcome"]
	// true
}

// Two PAIRs talk to each other in both directions, here within the process.
func ExamplePair() {
	ctx := context.Background()
	a, b := zmtp.NewPair(zmtp.Config{}), zmtp.NewPair(zmtp.Config{})
	defer a.Close()
	defer b.Close()
	endpoint, err := a.Listen("inproc://example-pair")
	must(err, b.Connect(endpoint))

	must(b.Send(ctx, zmtp.NewMessageString("ping")))
	m, err := a.Recv(ctx)
	must(err, a.Send(ctx, zmtp.NewMessageString("pong")))
	fmt.Println(m)
	m, err = b.Recv(ctx)
	must(err)
	fmt.Println(m)
	// Output:
	// ["ping"]
	// ["pong"]
}

// A SERVER answers the CLIENT from which a message came.
func ExampleServer() {
	ctx := context.Background()
	server, client := zmtp.NewServer(zmtp.Config{}), zmtp.NewClient(zmtp.Config{})
	defer server.Close()
	defer client.Close()
	endpoint, err := server.Listen("tcp://127.0.0.1:*")
	must(err, client.Connect(endpoint))

	must(client.Send(ctx, zmtp.NewMessageString("question")))
	m, err := server.Recv(ctx)
	must(err, server.Send(ctx, m.Peer().ID(), zmtp.NewMessageString("answer")))
	fmt.Println(m)
	m, err = client.Recv(ctx)
	must(err)
	fmt.Println(m)
	// Output:
	// ["question"]
	// ["answer"]
}

// A PEER connects to another one, and sends to the id that it gets for it.
func ExamplePeerSocket() {
	ctx := context.Background()
	a, b := zmtp.NewPeerSocket(zmtp.Config{}), zmtp.NewPeerSocket(zmtp.Config{})
	defer a.Close()
	defer b.Close()
	endpoint, err := a.Listen("tcp://127.0.0.1:*")
	must(err)
	id, err := b.ConnectPeer(endpoint)
	must(err, b.Send(ctx, id, zmtp.NewMessageString("hello")))
	m, err := a.Recv(ctx)
	must(err, a.Send(ctx, m.Peer().ID(), zmtp.NewMessageString("welcome")))
	m, err = b.Recv(ctx)
	must(err)
	fmt.Println(m)
	// Output: ["welcome"]
}

// A RADIO sends to the DISHes that have joined a group. Like a PUB it sends only to those that are
// there; Stats tells it about connections, not about groups.
func ExampleDish() {
	ctx, cancel := context.WithCancel(context.Background())
	radio, dish := zmtp.NewRadio(zmtp.Config{}), zmtp.NewDish(zmtp.Config{})
	endpoint, err := radio.Listen("tcp://127.0.0.1:*")
	must(err, dish.Join("weather"), dish.Connect(endpoint))

	done := make(chan struct{})
	go func() {
		defer close(done)
		for radio.Send(ctx, zmtp.NewMessageString("weather", "rain")) == nil && ctx.Err() == nil {
		}
	}()
	m, err := dish.Recv(ctx)
	must(err)
	fmt.Println(m)
	cancel()
	<-done
	radio.Close()
	dish.Close()
	// Output: ["weather" "rain"]
}

// A SCATTER gives each message to one of its GATHERs.
func ExampleScatter() {
	ctx := context.Background()
	scatter, gather := zmtp.NewScatter(zmtp.Config{}), zmtp.NewGather(zmtp.Config{})
	defer scatter.Close()
	defer gather.Close()
	endpoint, err := gather.Listen("tcp://127.0.0.1:*")
	must(err, scatter.Connect(endpoint), scatter.Send(ctx, zmtp.NewMessageString("job")))
	m, err := gather.Recv(ctx)
	must(err)
	fmt.Println(m)
	// Output: ["job"]
}

// A CHANNEL is a PAIR for messages of one part.
func ExampleChannel() {
	ctx := context.Background()
	a, b := zmtp.NewChannel(zmtp.Config{}), zmtp.NewChannel(zmtp.Config{})
	defer a.Close()
	defer b.Close()
	endpoint, err := a.Listen("tcp://127.0.0.1:*")
	must(err, b.Connect(endpoint), b.Send(ctx, zmtp.NewMessageString("one part")))
	m, err := a.Recv(ctx)
	must(err)
	fmt.Println(m)
	fmt.Println(errors.Is(b.Send(ctx, zmtp.NewMessageString("two", "parts")), zmtp.ErrMessage))
	// Output:
	// ["one part"]
	// true
}

// A STREAM talks to programs that know nothing of ZeroMQ. A message of an id and an empty part says
// that a connection has begun or ended; any other has what was read from it.
func ExampleStream() {
	ctx := context.Background()
	stream := zmtp.NewStream(zmtp.Config{})
	defer stream.Close()
	endpoint, err := stream.Listen("tcp://127.0.0.1:*")
	must(err)
	conn, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
	must(err)
	defer conn.Close()
	m, err := stream.Recv(ctx)
	must(err)
	fmt.Println("connected:", m.Size() == len(m.Part(0)))

	_, err = conn.Write([]byte("GET\n"))
	must(err)
	m, err = stream.Recv(ctx)
	must(err, stream.Send(ctx, zmtp.NewMessage(m.Part(0), []byte("hello\n"))))
	fmt.Printf("%q\n", m.Part(1))
	line, err := bufio.NewReader(conn).ReadString('\n')
	must(err)
	fmt.Printf("%q\n", line)
	// Output:
	// connected: true
	// "GET\n"
	// "hello\n"
}

// An XSUB receives what it has subscribed, as a SUB does, and also sends to its publishers: here to
// an XPUB, which sees the subscription and the message.
func ExampleXSub() {
	ctx := context.Background()
	xpub, xsub := zmtp.NewXPub(zmtp.Config{}), zmtp.NewXSub(zmtp.Config{})
	defer xpub.Close()
	defer xsub.Close()
	endpoint, err := xpub.Listen("tcp://127.0.0.1:*")
	must(err, xsub.Connect(endpoint), xsub.Subscribe("weather/"))
	m, err := xpub.Recv(ctx)
	must(err, xpub.Send(ctx, zmtp.NewMessageString("weather/oslo", "snow")))
	fmt.Println(m)
	m, err = xsub.Recv(ctx)
	must(err, xsub.Send(ctx, zmtp.NewMessageString("thanks")))
	fmt.Println(m)
	m, err = xpub.Recv(ctx)
	must(err)
	fmt.Println(m)
	// Output:
	// ["\x01weather/"]
	// ["weather/oslo" "snow"]
	// ["thanks"]
}
