package curve_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/zap"
)

// An encrypted PUSH/PULL pair: the server admits one client, by its public key.
func Example() {
	serverKey, serverSecret := curve.GenerateKeyPair()
	clientKey, clientSecret := curve.GenerateKeyPair()

	admit := zap.HandlerFunc(func(_ context.Context, req *zap.Request) (zap.Reply, error) {
		if curve.Key(req.Credentials[0]).Equal(clientKey) {
			return zap.Reply{Status: zap.StatusOK, UserID: "worker-1"}, nil
		}
		return zap.Reply{Status: zap.StatusDenied, Text: "unknown key"}, nil
	})
	server, err := curve.NewServer(zmtp.Auth{Handler: admit}, serverSecret)
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := curve.NewClient(serverKey, clientSecret)
	if err != nil {
		fmt.Println(err)
		return
	}

	pull := zmtp.NewPull(zmtp.Config{Mechanism: server.Mechanism})
	defer pull.Close()
	push := zmtp.NewPush(zmtp.Config{Mechanism: client.Mechanism}, zmtp.PushOptions{})
	defer push.Close()
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := push.Connect(bound); err != nil {
		fmt.Println(err)
		return
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := push.Send(ctx, zmtp.NewMessageString("nobody else can read this")); err != nil {
		fmt.Println(err)
		return
	}
	m, err := pull.Recv(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s\n", m.Peer().UserID(), m.Part(0))
	// Output: worker-1: nobody else can read this
}

// The servers of a process share a Limiter, here for 200 handshakes a second.
func ExampleServer_WithLimiter() {
	_, secret := curve.GenerateKeyPair()
	limiter := curve.NewLimiter(200)
	for _, domain := range []string{"xpub", "xsub"} {
		server, err := curve.NewServer(zmtp.Auth{Open: true, Domain: domain}, secret)
		if err != nil {
			fmt.Println(err)
			return
		}
		config := zmtp.Config{Mechanism: server.WithLimiter(limiter).Mechanism}
		defer zmtp.NewPull(config).Close()
	}
	fmt.Println(limiter.Stats().Started, "handshakes so far")
	// Output: 0 handshakes so far
}

// Certificate files have the form of CZMQ's and pyzmq's.
func ExampleCertificate_WriteFiles() {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	public, secret := curve.GenerateKeyPair()
	c := curve.Certificate{
		Public: public, Secret: &secret,
		Metadata: []curve.CertificateProperty{{Name: "name", Value: "worker-1"}},
	}
	path := filepath.Join(dir, "worker-1.key")
	if err := c.WriteFiles(path, time.Now()); err != nil {
		fmt.Println(err)
		return
	}
	read, err := curve.ReadCertificate(path + "_secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(read.Name(), read.Public.Equal(public), *read.Secret)
	// Output: worker-1 true (secret key)
}

// Keys are parsed as text, and secret keys are not printed.
func ExampleParseSecret() {
	secret, err := curve.ParseSecret([]byte("D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(secret)
	fmt.Println(secret.Public())
	// Output:
	// (secret key)
	// Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID
}
