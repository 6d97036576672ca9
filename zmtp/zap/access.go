package zap

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
)

// Addresses lets clients in or keeps them out by their IP address, and asks Next about the others. A client without an IP
// address, over ipc, is not concerned.
type Addresses struct {
	// Allow, unless it is empty, names all from which clients may come.
	Allow []netip.Prefix
	// Deny names those from which they may not; it goes before Allow.
	Deny []netip.Prefix
	// Status is what those who are kept out are told. Default StatusTemporary: a closed connection.
	Status int
	// Next decides about the others. Nil lets them in.
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

// Admits reports whether clients may come from addr, if Next agrees.
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

// Passwords lets in the PLAIN clients whose name and password it holds, and makes the name their User-Id. Others are denied.
type Passwords map[string]string

// Authenticate implements Handler. The time it takes does not tell how much of a password was right.
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
