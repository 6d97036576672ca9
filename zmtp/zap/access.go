package zap

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
)

// Addresses is a Handler that refuses clients by their IP address, and asks Next about all others.
// It never refuses a client without an IP address, as over ipc.
type Addresses struct {
	// Allow contains the addresses that are allowed. Default: all.
	Allow []netip.Prefix
	// Deny contains addresses that are refused even if Allow contains them.
	Deny []netip.Prefix
	// Status is the reply to refused clients. Default StatusTemporary: the connection is closed.
	Status int
	// Next decides about all other clients. Default: they are accepted.
	Next Handler
}

// Authenticate implements Handler.
func (a *Addresses) Authenticate(ctx context.Context, req *Request) (Reply, error) {
	if addr, err := netip.ParseAddr(req.Address); err == nil && !a.Admits(addr) {
		status := a.Status
		if status == 0 {
			status = StatusTemporary
		}
		return Reply{Status: status, Text: "address not allowed"}, nil
	}
	if a.Next == nil {
		return Reply{Status: StatusOK, Text: "OK"}, nil
	}
	return a.Next.Authenticate(ctx, req)
}

// Admits reports whether clients with the address addr pass Allow and Deny.
func (a *Addresses) Admits(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return !contains(a.Deny, addr) && (len(a.Allow) == 0 || contains(a.Allow, addr))
}

func contains(all []netip.Prefix, addr netip.Addr) bool {
	for _, p := range all {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// Passwords is a Handler that accepts PLAIN clients by name and password, and makes the name their
// User-Id. It denies all others.
type Passwords map[string]string

// Authenticate implements Handler. It takes the same time however much of a password is right.
func (p Passwords) Authenticate(_ context.Context, req *Request) (Reply, error) {
	if req.Mechanism != "PLAIN" || len(req.Credentials) != 2 {
		return Reply{Status: StatusDenied, Text: "PLAIN is required"}, nil
	}
	user := string(req.Credentials[0])
	want, known := p[user]
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256(req.Credentials[1])
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || !known {
		return Reply{Status: StatusDenied, Text: "unknown user or wrong password"}, nil
	}
	return Reply{Status: StatusOK, Text: "OK", UserID: user}, nil
}
