package zmtp

import "net"

// vectorWriter writes several pieces of memory with one system call, and can go on after a write
// that has timed out.
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

// newBuffersWriter returns a writer for conn, or nil if a write to conn that has timed out cannot be
// continued.
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
