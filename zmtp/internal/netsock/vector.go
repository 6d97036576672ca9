package netsock

import "net"

// Writer writes several pieces of memory with one system call, and can continue after a timeout. It
// is not for concurrent use.
type Writer interface {
	// Start sets what Flush writes. vec and its pieces must not change until End.
	Start(vec [][]byte)
	// Flush writes what is left and returns how many bytes were taken, also with an error.
	Flush() (int, error)
	// End forgets the memory.
	End()
}

// buffersWriter writes with package net.
type buffersWriter struct {
	conn net.Conn
	rest net.Buffers
}

// newBuffersWriter returns a writer for conn, or nil if writes to conn cannot be continued after a
// timeout.
func newBuffersWriter(conn net.Conn) Writer {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn, Counted:
		return &buffersWriter{conn: conn}
	}
	return nil
}

func (w *buffersWriter) Start(vec [][]byte) { w.rest = vec }

func (w *buffersWriter) Flush() (int, error) {
	n, err := w.rest.WriteTo(w.conn)
	return int(n), err
}

func (w *buffersWriter) End() { w.rest = nil }
