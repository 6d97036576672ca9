//go:build unix

package zmtp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"syscall"
	"testing"
	"time"
)

// tlsConfigs returns the configurations of a server and of a client that trusts it.
func tlsConfigs(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der},
		PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

// cpuTime returns the processor time that the process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A write to a TLS connection may wait for the peer without limit, and uses no CPU time meanwhile.
func TestTLS(t *testing.T) {
	server, client := tlsConfigs(t)
	push, pull := NewPush(Config{}, PushOptions{}),
		NewPull(Config{RecvHWM: 1, Dial: (&tls.Dialer{Config: client}).DialContext})
	defer closeNow(t, pull)
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := push.Serve(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := pull.Connect(bound); err != nil {
		t.Fatal(err)
	}
	wait(t, "the connection", func() bool { return push.Stats().Peers == 1 })
	const count, size = 16, 1 << 20 // more than the kernel holds
	for i := range count {
		if err := push.Send(t.Context(),
			NewMessage(fmt.Appendf(nil, "%06d", i), make([]byte, size))); err != nil {
			t.Fatal(err)
		}
	}
	p := one(t, push.Socket)
	before := uint64(0)
	wait(t, "a write that waits", func() bool {
		_, _, now := p.Queue()
		still := now == before && now > 0
		before = now
		time.Sleep(10 * time.Millisecond)
		return still
	})
	began := cpuTime(t)
	time.Sleep(4 * writeSlice)
	if used := cpuTime(t) - began; used > 2*writeSlice {
		t.Errorf("%v of processor time in %v of waiting", used, 4*writeSlice)
	}
	done := make(chan struct{})
	go func() {
		shutdown(t, push)
		close(done)
	}()
	expectAll(t, pull.Recv, count)
	<-done
}
