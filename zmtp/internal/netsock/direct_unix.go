//go:build linux || freebsd

package netsock

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// Sockets of package net never block, so a system call on one takes as long as its copy, some 100
// µs at most. Package net announces each call to Go's scheduler, which takes the processor from
// calls that last longer than 20 µs and starts a thread for it. With calls of hundreds of kilobytes
// that costs a fifth of a busy forwarder's CPU time. The types here make the same calls without the
// announcement, and leave waiting, deadlines and closing to package net.

// directReader reads from a TCP or unix socket.
type directReader struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool // r.once, allocated once
	conn net.Conn
	b    []byte
	n    int
	err  error
}

// NewReader returns a reader for conn, or conn itself if it is no socket.
func NewReader(conn net.Conn) io.Reader {
	raw := rawConn(conn)
	if raw == nil {
		return conn
	}
	r := &directReader{raw: raw, conn: conn}
	r.try = r.once
	return r
}

// rawConn returns the socket of conn, nil if it has none.
func rawConn(conn net.Conn) syscall.RawConn {
	switch c := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// Read implements io.Reader.
func (r *directReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	r.b, r.n, r.err = b, 0, nil
	err := r.raw.Read(r.try)
	r.b = nil
	if err == nil {
		err = r.err
	}
	return r.n, err
}

// once is one attempt. It returns false to be called again when there is something to read.
func (r *directReader) once(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd,
			uintptr(unsafe.Pointer(&r.b[0])), uintptr(len(r.b)))
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			r.err = opError("read", r.conn, errno)
		case n == 0:
			r.err = io.EOF
		default:
			r.n = int(n)
		}
		return true
	}
}

// maxVector is how many pieces the kernel takes with one call: UIO_MAXIOV of Linux and FreeBSD.
const maxVector = 1024

// directWriter writes to a TCP or unix socket.
type directWriter struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool // w.once, allocated once
	conn net.Conn
	vec  []syscall.Iovec // what is not written yet
	all  []syscall.Iovec // the memory of vec
	n    int
	err  error
}

// NewWriter returns the cheapest writer for conn, or nil if writes to conn cannot be
// continued after a timeout.
func NewWriter(conn net.Conn) Writer {
	raw := rawConn(conn)
	if raw == nil {
		return newBuffersWriter(conn)
	}
	w := &directWriter{raw: raw, conn: conn}
	w.try = w.once
	return w
}

func (w *directWriter) Start(vec [][]byte) {
	w.all = w.all[:0]
	for _, b := range vec {
		if len(b) > 0 {
			v := syscall.Iovec{Base: &b[0]}
			v.SetLen(len(b))
			w.all = append(w.all, v)
		}
	}
	w.vec = w.all
}

func (w *directWriter) Flush() (int, error) {
	if len(w.vec) == 0 {
		return 0, nil
	}
	w.n, w.err = 0, nil
	err := w.raw.Write(w.try)
	if err == nil {
		err = w.err
	}
	return w.n, err
}

func (w *directWriter) End() {
	clear(w.all)
	w.vec = nil
}

// once writes until all is written, and returns false to be called again when there is room.
func (w *directWriter) once(fd uintptr) bool {
	for len(w.vec) > 0 {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd,
			uintptr(unsafe.Pointer(&w.vec[0])), uintptr(min(len(w.vec), maxVector)))
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			w.err = opError("write", w.conn, errno)
			return true
		}
		w.n += int(n)
		w.advance(uint64(n))
	}
	return true
}

// advance takes n bytes off the front of vec.
func (w *directWriter) advance(n uint64) {
	for n > 0 {
		v := &w.vec[0]
		size := uint64(v.Len)
		if n < size {
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
			v.SetLen(int(size - n))
			return
		}
		n -= size
		w.vec = w.vec[1:]
	}
}

// opError is the error that package net makes of errno.
func opError(op string, conn net.Conn, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: conn.LocalAddr().Network(), Source: conn.LocalAddr(),
		Addr: conn.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}
