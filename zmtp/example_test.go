package zmtp_test

import (
	"context"
	"fmt"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/zap"
)

// A pipeline: each message goes to one PULL. The PUSH may connect before anybody listens.
func ExamplePush() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	pull := zmtp.NewPull(zmtp.Config{})
	defer pull.Close()
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		fmt.Println(err)
		return
	}
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	if err := push.Connect(endpoint); err != nil {
		fmt.Println(err)
		return
	}
	for i := range 3 {
		m := zmtp.NewMessageString("job", fmt.Sprint(i))
		if err := push.Send(ctx, m); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Shutdown sends what is queued, and waits until the other side has it.
	if err := push.Shutdown(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		m, err := pull.Recv(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %s\n", m.Part(0), m.Part(1))
	}
	// Output:
	// job 0
	// job 1
	// job 2
}

// A publisher sends to the subscribers that are there, so it sends its state again and again.
func ExamplePub() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	pub := zmtp.NewPub(zmtp.Config{})
	defer pub.Close()
	endpoint, err := pub.Listen("tcp://127.0.0.1:*")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		// After the end of the socket Send returns ErrClosed.
		for pub.Send(ctx, zmtp.NewMessageString("weather/berlin", "rain")) == nil &&
			pub.Send(ctx, zmtp.NewMessageString("weather/oslo", "snow")) == nil {
			time.Sleep(time.Millisecond)
		}
	}()

	sub := zmtp.NewSub(zmtp.Config{})
	defer sub.Close()
	if err := sub.Subscribe("weather/o"); err != nil { // a prefix of the first part
		fmt.Println(err)
		return
	}
	if err := sub.Connect(endpoint); err != nil {
		fmt.Println(err)
		return
	}
	for m, err := range sub.All(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %s\n", m.Part(0), m.Part(1))
		break
	}
	// Output: weather/oslo: snow
}

// An XPUB receives the subscriptions of its peers, so it knows when somebody listens.
func ExampleXPub() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	xpub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{})
	defer xpub.Close()
	endpoint, err := xpub.Listen("tcp://127.0.0.1:*")
	if err != nil {
		fmt.Println(err)
		return
	}
	sub := zmtp.NewSub(zmtp.Config{})
	defer sub.Close()
	if err := sub.Subscribe("news"); err != nil {
		fmt.Println(err)
		return
	}
	if err := sub.Connect(endpoint); err != nil {
		fmt.Println(err)
		return
	}
	request, err := xpub.Recv(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%q\n", request.Part(0)) // 1 and the topic; 0 and the topic at its end
	if err := xpub.Send(ctx, zmtp.NewMessageString("news", "hello")); err != nil {
		fmt.Println(err)
		return
	}
	m, err := sub.Recv(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s\n", m.Part(0), m.Part(1))
	// Output:
	// "\x01news"
	// news: hello
}

// PLAIN sends a name and a password in clear: it is for networks that others cannot read. A handler
// decides about each client.
func ExamplePlainServer() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	check := func(_ context.Context, r *zap.Request) (zap.Reply, error) {
		if string(r.Credentials[0]) == "alice" && string(r.Credentials[1]) == "secret" {
			return zap.Reply{Status: zap.StatusOK, UserID: "alice"}, nil
		}
		return zap.Reply{Status: zap.StatusDenied, Text: "wrong name or password"}, nil
	}
	server := zmtp.PlainServer{Auth: zmtp.Auth{Handler: zap.HandlerFunc(check)}}
	pull := zmtp.NewPull(zmtp.Config{Mechanism: server.Mechanism})
	defer pull.Close()
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		fmt.Println(err)
		return
	}

	client := zmtp.PlainClient{User: "alice", Password: "secret"}
	push := zmtp.NewPush(zmtp.Config{Mechanism: client.Mechanism}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(endpoint); err != nil {
		fmt.Println(err)
		return
	}
	if err := push.Send(ctx, zmtp.NewMessageString("hello")); err != nil {
		fmt.Println(err)
		return
	}
	m, err := pull.Recv(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s says %s\n", m.Peer().UserID(), m.Part(0))
	// Output: alice says hello
}

// A monitor tells what happens to connections. The events have the names and meanings of libzmq's.
func ExampleSocket_Monitor() {
	pull := zmtp.NewPull(zmtp.Config{})
	monitor := pull.Monitor(100) // events that wait; more are dropped and counted
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		fmt.Println(err)
		return
	}
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(endpoint); err != nil {
		fmt.Println(err)
		return
	}
	for e := range monitor.All(context.Background()) {
		fmt.Println(e.Type)
		if e.Type == zmtp.EventHandshakeSucceeded {
			pull.StopMonitor(monitor)
		}
	}
	pull.Close()
	// Output:
	// LISTENING
	// ACCEPTED
	// HANDSHAKE_SUCCEEDED
	// MONITOR_STOPPED
}
