package pipeline

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path"
	"path/filepath"
)

const dayLayout = "2006-01-02"

// archiveName returns the name of a log in zeekctl's archive tree, without extension
// (spec 3.9): the day of its opening, and both times.
func (l *Logger) archiveName(r *rotation) string {
	opened, closed := r.opened.In(l.location), r.closed.In(l.location)
	return opened.Format(dayLayout) + "/" + r.name + "." + opened.Format(clockLayout) + "-" + closed.Format(clockLayout) + l.dashName()
}

// archiveTemp returns the name of a file that is about to become base. zeek-archiver names
// its own alike.
func archiveTemp(base string) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return tempPrefix + hex.EncodeToString(random[:]) + "." + base
}

const tempPrefix = ".tmp."

// toArchive moves a log to the archive and returns its path there.
func (l *Logger) toArchive(r *rotation) (string, error) {
	root, err := makeRoot(l.archive)
	if err != nil {
		return "", err
	}
	defer root.Close()
	to := l.archiveName(r)
	var target string
	if l.compressLevel == 0 || l.compressed(r.ext) {
		target, err = l.moveWithin(root, r, to)
	} else {
		if err = root.MkdirAll(path.Dir(to), 0o777); err == nil {
			target, err = l.copyInto(root, r, to, l.compressLevel)
		}
	}
	if err == nil {
		l.archived(target)
	}
	return target, err
}

// copyInto copies a log into dst, compressed if level is not 0, and then removes it: it is there until
// its copy is complete and on disk under its final name. to has no extension and its
// folder is there.
func (l *Logger) copyInto(dst *os.Root, r *rotation, to string, level int) (target string, err error) {
	ext := r.ext
	if level > 0 {
		ext += ".gz"
		l.compressSlots.acquire()
		defer l.compressSlots.release()
	}
	in, err := l.root.Open(r.src)
	if err != nil {
		return "", err
	}
	defer in.Close()
	tmp := path.Join(path.Dir(to), archiveTemp(path.Base(to)))
	if err := copyFile(dst, tmp, in, level, l.copyTo); err != nil {
		_ = dst.Remove(tmp)
		return "", err
	}
	target, err = freeName(to, ext, func(target string) error {
		if r.found && sameContent(dst, target, tmp, level > 0) {
			return dst.Remove(tmp) // it was put there before, and not removed here
		}
		return renameNew(dst, tmp, dst, target)
	})
	if err != nil {
		_ = dst.Remove(tmp)
		return "", err
	}
	if err := l.root.Remove(r.src); err != nil {
		// It is in its place; to do it again would make it twice.
		l.rotationFailed(err)
		l.log.Error("log is archived, its original cannot be removed", "file", l.inLogDir(r.src), "err", err)
	}
	return filepath.Join(dst.Name(), filepath.FromSlash(target)), nil
}

// copyFile copies in to the new file name of dst and syncs it.
func copyFile(dst *os.Root, name string, in *os.File, level int, through func(io.Writer) io.Writer) error {
	out, err := dst.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	w := through(out)
	if level == 0 {
		_, err = io.Copy(w, in)
	} else {
		var z *gzip.Writer
		if z, err = gzip.NewWriterLevel(w, level); err == nil {
			if fi, e := in.Stat(); e == nil {
				z.ModTime = fi.ModTime()
			}
			_, err = io.Copy(z, in)
		}
		if err == nil {
			err = z.Close()
		}
	}
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// sameContent reports whether two files of dst hold the same, compressed or not.
func sameContent(dst *os.Root, a, b string, compressed bool) bool {
	read := func(name string) (sum [crc32.Size]byte, size int64, err error) {
		f, err := dst.Open(name)
		if err != nil {
			return sum, 0, err
		}
		defer f.Close()
		var r io.Reader = f
		if compressed {
			if r, err = gzip.NewReader(f); err != nil {
				return sum, 0, err
			}
		}
		h := crc32.NewIEEE()
		size, err = io.Copy(h, r)
		h.Sum(sum[:0])
		return sum, size, err
	}
	sumA, sizeA, errA := read(a)
	sumB, sizeB, errB := read(b)
	return errors.Join(errA, errB) == nil && sizeA == sizeB && bytes.Equal(sumA[:], sumB[:])
}
