package zmtp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"

	"zmtpd/zmtp"
)

// Any net.Listener and any dialer carry ZMTP, here with TLS between them.
func ExampleSocket_Serve() {
	// A server with a certificate for 127.0.0.1, and a client that trusts it.
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	certificates := server.TLS.Certificates
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	ctx := context.Background()
	pull := zmtp.NewPull(zmtp.Config{})
	defer pull.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificates})
	if err != nil {
		fmt.Println(err)
		return
	}
	endpoint, err := pull.Serve(l)
	if err != nil {
		fmt.Println(err)
		return
	}

	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: roots}}
	push := zmtp.NewPush(zmtp.Config{Dial: dialer.DialContext})
	if err := push.Connect(endpoint); err != nil {
		fmt.Println(err)
		return
	}
	if err := push.Send(ctx, zmtp.NewMessageString("hello")); err != nil {
		fmt.Println(err)
		return
	}
	if err := push.Shutdown(ctx); err != nil {
		fmt.Println(err)
		return
	}
	m, err := pull.Recv(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", m.Part(0))
	// Output: hello
}
