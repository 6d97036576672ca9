package files

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// repairTemp is the prefix of a file that is going to replace a damaged one.
const repairTemp = ".tmp.repair."

// repair cuts off half a line at the end of a log whose logger was killed while it wrote. Of a
// compressed log it keeps the whole lines that can be decompressed. It can be called again.
func (l *Logger) repair(r *rotation) error {
	f, err := r.in.OpenFile(r.src, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if l.compressed(r.ext) || hasGzipHeader(f) {
		return l.repairGzip(r)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	end := size
	chunk := make([]byte, 64<<10)
	for end > 0 {
		start := max(0, end-int64(len(chunk)))
		part := chunk[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			end = start + int64(i) + 1
			break
		}
		end = start
	}
	if end < size {
		l.log.Warn("a leftover log ended with half a line, which is cut off", "path", r.name,
			"bytes", size-end)
		if err := f.Truncate(end); err != nil {
			return err
		}
	}
	return f.Sync()
}

// compressed reports whether files with an extension were compressed while they were written.
func (l *Logger) compressed(ext string) bool {
	return ext == "."+l.suffix+"."+l.options.GzipExtension
}

// hasGzipHeader reports whether a file begins like a gzip file. No log does.
func hasGzipHeader(f io.ReaderAt) bool {
	var magic [2]byte
	_, err := f.ReadAt(magic[:], 0)
	return err == nil && magic == [2]byte{0x1f, 0x8b} // RFC 1952, 2.3.1
}

// repairGzip replaces a log whose gzip stream is not complete by one with its whole lines.
func (l *Logger) repairGzip(r *rotation) (err error) {
	in, err := r.in.Open(r.src)
	if err != nil {
		return err
	}
	defer in.Close()
	if whole(in) {
		return nil
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	tmp := path.Join(path.Dir(r.src), repairTemp+path.Base(r.src))
	out, err := r.in.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = r.in.Remove(tmp)
		}
	}()
	z, err := gzip.NewWriterLevel(out, max(l.options.GzipLevel, gzip.BestSpeed))
	if err == nil {
		lines := &lineWriter{w: z}
		if zr, e := gzip.NewReader(in); e == nil {
			_, err = io.Copy(lines, zr)
		}
		if lines.err != nil {
			err = lines.err
		} else if damaged(err) {
			err = nil
		}
		l.log.Warn("a leftover compressed log has no end; its whole lines are kept", "path", r.name,
			"bytes", len(lines.rest))
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return r.in.Rename(tmp, r.src)
}

// whole reports whether a gzip file can be decompressed to its end.
func whole(f io.Reader) bool {
	z, err := gzip.NewReader(f)
	if err == nil {
		_, err = io.Copy(io.Discard, z)
	}
	return err == nil
}

// damaged reports whether decompression failed because of the content of the file.
func damaged(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) ||
		errors.Is(err, gzip.ErrHeader) ||
		err != nil && !errors.As(err, new(*fs.PathError)) &&
			strings.HasPrefix(err.Error(), "flate:")
}

// lineWriter passes on whole lines.
type lineWriter struct {
	w    io.Writer
	rest []byte
	err  error
}

func (l *lineWriter) Write(b []byte) (int, error) {
	end := bytes.LastIndexByte(b, '\n') + 1
	if end > 0 {
		if _, l.err = l.w.Write(l.rest); l.err == nil {
			_, l.err = l.w.Write(b[:end])
		}
		if l.err != nil {
			return 0, l.err
		}
		l.rest = l.rest[:0]
	}
	l.rest = append(l.rest, b[end:]...)
	return len(b), nil
}
