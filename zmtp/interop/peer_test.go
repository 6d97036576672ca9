//go:build unix

package interop

import (
	"testing"

	"zmtpd/zmtp/testkit"
)

// patience is how long anything may take that should happen at once on a machine that is not busy.
const patience = testkit.Patience

// peer is a process with libzmq sockets.
type peer struct {
	*testkit.Libzmq
	t       *testing.T
	sockets int
}

// startPeer starts a peer that ends with the test.
func startPeer(t *testing.T) *peer {
	t.Helper()
	return &peer{Libzmq: testkit.StartLibzmq(t), t: t}
}

// proxy starts libzmq's broker on ephemeral ports.
func (p *peer) proxy() (xsub, xpub string) {
	p.t.Helper()
	r := p.Call(p.t, "proxy", testkit.Args{"xsub": "tcp://127.0.0.1:*",
		"xpub": "tcp://127.0.0.1:*"})
	return r.Endpoints[0], r.Endpoints[1]
}
