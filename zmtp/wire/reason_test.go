package wire

import (
	"strings"
	"testing"
)

func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		name := r.String()
		if name == "" || strings.HasPrefix(name, "reason_") || seen[name] ||
			strings.ToLower(name) != name || strings.Contains(name, " ") {
			t.Errorf("reason %d is called %q", r, name)
		}
		seen[name] = true
	}
	if len(seen) != int(numReasons)-1 {
		t.Errorf("%d names for %d reasons", len(seen), numReasons-1)
	}
	for r, want := range map[Reason]bool{
		ReasonNone: false, UnsupportedVersion: true, MechanismMismatch: true, PeerError: true,
		SocketTypeMismatch: true,
		MessageTooLarge:    true, NotZMTP: false, HandshakeTimeout: false, PeerClosed: false,
		ConnectionLost: false, LocalClose: false,
	} {
		if r.Protocol() != want {
			t.Errorf("%v is an error of the protocol: %v", r, !want)
		}
	}
	if got := numReasons.String(); !strings.HasPrefix(got, "reason_") {
		t.Errorf("an unknown reason is %q", got)
	}
}

// TestSocketTypes is the matrix of part A.4 of the conformance notes: a pair accepts each other or
// not, in both directions.
func TestSocketTypes(t *testing.T) {
	pairs := map[string]bool{}
	for _, pair := range strings.Fields(`REQ-REP REQ-ROUTER DEALER-REP DEALER-DEALER DEALER-ROUTER ROUTER-ROUTER PUSH-PULL
		PUB-SUB PUB-XSUB XPUB-SUB XPUB-XSUB PAIR-PAIR CLIENT-SERVER RADIO-DISH SCATTER-GATHER PEER-PEER CHANNEL-CHANNEL`) {
		a, b, _ := strings.Cut(pair, "-")
		pairs[a+"-"+b], pairs[b+"-"+a] = true, true
	}
	types := []SocketType{
		REQ, REP, DEALER, ROUTER, PUB, SUB, XPUB, XSUB, PUSH, PULL, PAIR, CLIENT, SERVER, RADIO,
		DISH, SCATTER, GATHER, PEER, CHANNEL,
		"STREAM", "", "pub",
	}
	for _, a := range types {
		for _, b := range types {
			if got, want := a.Accepts(b), pairs[string(a+"-"+b)]; got != want {
				t.Errorf("%s accepts %s: %v", a, b, got)
			}
		}
	}
}
