package zmtp

import "net"

// vectorWriter writes several pieces of memory with one system call, and can continue after a
// timeout.
type vectorWriter interface {
	// start sets what flush writes. vec and its pieces must not change until end.
	start(vec [][]byte)
	// flush writes what is left and returns how many bytes were taken, also with an error.
	flush() (int, error)
	// end forgets the memory.
	end()
}

// buffersWriter writes with package net.
type buffersWriter struct {
	conn net.Conn
	rest net.Buffers
}

// newBuffersWriter returns a writer for conn, or nil if writes to conn cannot be continued after a
// timeout.
func newBuffersWriter(conn net.Conn) vectorWriter {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn, QueuedConn:
		return &buffersWriter{conn: conn}
	}
	return nil
}

func (w *buffersWriter) start(vec [][]byte) { w.rest = vec }

func (w *buffersWriter) flush() (int, error) {
	n, err := w.rest.WriteTo(w.conn)
	return int(n), err
}

func (w *buffersWriter) end() { w.rest = nil }
