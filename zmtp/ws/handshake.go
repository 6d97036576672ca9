package ws

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"zmtpd/zmtp/wire"
)

const (
	// maxHandshake bounds a request or response in bytes.
	maxHandshake = 16 << 10
	// bareProtocol is the subprotocol of NULL without READY.
	bareProtocol = "ZWS2.0"
	// acceptSuffix is what RFC 6455, section 4.2.2, adds to a key.
	acceptSuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// protocols are the subprotocols for a mechanism, the best first.
func protocols(mechanism string) []string {
	p := []string{bareProtocol + "/" + mechanism}
	if mechanism == "NULL" {
		p = append(p, bareProtocol)
	}
	return p
}

// accept is the answer to a key.
func accept(key string) string {
	sum := sha1.Sum([]byte(key + acceptSuffix))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// inlet reads a handshake of limited length, and then what follows it.
type inlet struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (l *inlet) Read(b []byte) (int, error) {
	if l.left == 0 {
		return 0, notWebSocket("a handshake above %d bytes", maxHandshake)
	}
	n, err := l.r.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}

func notWebSocket(format string, args ...any) error {
	return wire.Errorf(wire.NotZMTP, "the peer sent "+format, args...)
}

// parsed returns the error of a handshake that cannot be parsed. An error of the connection stays.
func (l *inlet) parsed(err error) error {
	if t, ok := err.(interface{ Timeout() bool }); err == nil || ok && t.Timeout() ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return err
	}
	return notWebSocket("no WebSocket handshake: %.200s", err.Error())
}

// server answers the handshake of a client.
func (o *Options) server(c *conn, mechanism string) error {
	limited := &inlet{r: c.stream, left: maxHandshake}
	in := bufio.NewReaderSize(limited, readBuffer)
	req, err := http.ReadRequest(in)
	if err != nil {
		return limited.parsed(err)
	}
	protocol, status, err := o.check(req, mechanism)
	if err != nil {
		io.WriteString(c.stream, refusal(status, err))
		return err
	}
	_, err = fmt.Fprintf(c.stream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		accept(req.Header.Get("Sec-WebSocket-Key")), protocol)
	if err != nil {
		return err
	}
	in = rest(in, c.stream)
	c.start(in, false, protocol)
	return nil
}

// rest returns a reader for what follows a handshake that in has read.
func rest(in *bufio.Reader, from io.Reader) *bufio.Reader {
	early, _ := in.Peek(in.Buffered())
	if len(early) > 0 {
		from = io.MultiReader(bytes.NewReader(bytes.Clone(early)), from)
	}
	in.Reset(from)
	return in
}

// check returns the subprotocol for a request, or why it is refused, with the HTTP status.
func (o *Options) check(req *http.Request, mechanism string) (protocol string, status int,
	err error) {
	h := req.Header
	switch key, kerr := base64.StdEncoding.DecodeString(h.Get("Sec-WebSocket-Key")); {
	case req.Method != http.MethodGet || !req.ProtoAtLeast(1, 1):
		return "", http.StatusMethodNotAllowed, notWebSocket("%s %s instead of GET HTTP/1.1",
			req.Method, req.Proto)
	case !hasToken(h, "Connection", "upgrade") || !hasToken(h, "Upgrade", "websocket"):
		return "", http.StatusUpgradeRequired, notWebSocket("a request without upgrade")
	case h.Get("Sec-WebSocket-Version") != "13":
		return "", http.StatusUpgradeRequired, notWebSocket("version %.10q of WebSocket, not 13",
			h.Get("Sec-WebSocket-Version"))
	case kerr != nil || len(key) != 16:
		return "", http.StatusBadRequest, notWebSocket("a Sec-WebSocket-Key that is not 16 bytes")
	case !o.origin(req):
		return "", http.StatusForbidden, wire.Errorf(wire.Rejected,
			"a page of origin %.100q may not connect", h.Get("Origin"))
	}
	ours := protocols(mechanism)
	offered := tokens(h, "Sec-WebSocket-Protocol")
	for _, p := range offered {
		if slices.Contains(ours, p) {
			return p, 0, nil
		}
	}
	return "", http.StatusBadRequest, wire.Errorf(wire.MechanismMismatch,
		"the peer offers the subprotocols %.100q, this side takes %q", offered, ours)
}

// origin reports whether the page that makes a request may: browsers let every page connect to
// every host, and say which page it is. Other programs send no Origin.
func (o *Options) origin(req *http.Request) bool {
	from := req.Header.Get("Origin")
	if from == "" {
		return true
	}
	u, err := url.Parse(from)
	return err == nil &&
		(strings.EqualFold(u.Host, req.Host) || slices.Contains(o.Origins, from))
}

// refusal is the HTTP response to a request that is refused.
func refusal(status int, err error) string {
	text := err.Error() + "\n"
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nConnection: close\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Content-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(text), text)
}

// client begins the handshake of a connection to a server.
func (a *address) client(c *conn, mechanism string) error {
	ours := protocols(mechanism)
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	// The list has no spaces, as that of libzmq.
	_, err := fmt.Fprintf(c.stream, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n"+
		"Sec-WebSocket-Version: 13\r\n\r\n", a.path, a.host, key, strings.Join(ours, ","))
	if err != nil {
		return err
	}
	limited := &inlet{r: c.stream, left: maxHandshake}
	in := bufio.NewReaderSize(limited, readBuffer)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodGet})
	if err != nil {
		return limited.parsed(err)
	}
	protocol := resp.Header.Get("Sec-WebSocket-Protocol")
	switch {
	case resp.StatusCode != http.StatusSwitchingProtocols:
		// Not a fault of protocol: a proxy in between may answer for a server that starts.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return fmt.Errorf("the server answered %.100q: %.200q", resp.Status, body)
	case !hasToken(resp.Header, "Connection", "upgrade"),
		!hasToken(resp.Header, "Upgrade", "websocket"),
		resp.Header.Get("Sec-WebSocket-Accept") != accept(key):
		return notWebSocket("a response that does not accept the WebSocket")
	case !slices.Contains(ours, protocol):
		return wire.Errorf(wire.MechanismMismatch,
			"the peer chose the subprotocol %.50q, this side offers %q", protocol, ours)
	}
	c.start(rest(in, c.stream), true, protocol)
	return nil
}

// tokens returns the elements of a list in a header.
func tokens(h http.Header, name string) (list []string) {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			list = append(list, strings.TrimSpace(t))
		}
	}
	return list
}

func hasToken(h http.Header, name, token string) bool {
	return slices.ContainsFunc(tokens(h, name), func(t string) bool {
		return strings.EqualFold(t, token)
	})
}
