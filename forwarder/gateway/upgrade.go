package gateway

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// Path is that of Zeek's WebSocket API.
const Path = "/v1/messages/json"

// A browser cannot set a header for a WebSocket. It offers these subprotocols instead: subprotocol,
// which is the answer, and tokenProtocol with the token behind it.
const (
	subprotocol   = "zmtpd"
	tokenProtocol = "zmtpd.bearer."
)

// connBuffer is the size of the buffers that coder/websocket has for each connection, one for
// reading and one for writing. Those of net/http are eight times as large.
const connBuffer = 512

// ServeHTTP implements [http.Handler]. It upgrades the connection to a WebSocket.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	identity := g.files.identify(r)
	if identity == nil {
		g.refuse(Unauthorized, r.RemoteAddr, "")
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "the token or certificate is missing or unknown", http.StatusUnauthorized)
		return
	}
	hijacker := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(hijacker, r, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, OriginPatterns: g.cfg.Load().Origins,
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		reason := BadHandshake
		if hijacker.status == http.StatusForbidden {
			reason = BadOrigin
		}
		g.refuse(reason, r.RemoteAddr, identity.Name, "err", err)
		return
	}
	c := &client{ws: ws, conn: hijacker.conn, remote: r.RemoteAddr, identity: identity,
		app: strings.Clone(r.Header.Get("X-Application-Name"))}
	switch {
	case r.RequestURI != Path:
		g.reject(c, InvalidURI, "invalid_uri", "Invalid URI - use "+Path)
	case !validAppName(c.app):
		g.reject(c, InvalidAppName, "invalid_application_name", "Invalid X-Application-Name")
	default:
		if g.start(c) == nil {
			c.conn.Close()
		}
	}
}

// reject sends an error to a connection that does not become a client, and closes it, as Zeek does.
func (g *Gateway) reject(c *client, r Reason, code, text string) {
	g.refuse(r, c.remote, c.identity.Name)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		c.conn.Close()
		return
	}
	c.g, c.done = g, make(chan struct{})
	g.readers.Go(func() {
		if err := c.ws.Write(g.ctx, websocket.MessageText, errorText(code, text)); err != nil {
			c.abort()
			return
		}
		c.close(websocket.StatusPolicyViolation, text)
	})
}

// validAppName reports whether Zeek allows the name (cluster/websocket/WebSocket.cc). It may be
// empty.
func validAppName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') &&
			!strings.ContainsRune("/_-.=:*@", rune(c)) {
			return false
		}
	}
	return len(name) <= maxAppName
}

// maxAppName bounds the name of an application, in bytes.
const maxAppName = 128

// hijacker gives coder/websocket a connection with small buffers.
type hijacker struct {
	http.ResponseWriter
	status int
	conn   *corked // after Hijack
}

// WriteHeader implements http.ResponseWriter.
func (h *hijacker) WriteHeader(status int) {
	h.status = status
	h.ResponseWriter.WriteHeader(status)
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := h.ResponseWriter.(http.Hijacker).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return nil, nil, err
	}
	h.conn = &corked{Conn: conn}
	// What was read already has to be in the new buffer, from which coder/websocket takes it.
	r := bufio.NewReaderSize(bytes.NewReader(early), max(connBuffer, len(early)))
	if _, err := r.Peek(len(early)); err != nil {
		return nil, nil, err
	}
	return h.conn, bufio.NewReadWriter(r, bufio.NewWriterSize(h.conn, connBuffer)), nil
}
