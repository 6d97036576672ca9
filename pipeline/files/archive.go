package files

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
)

const dayLayout = "2006-01-02"

// archiveName returns the name of a log in the archive tree, without extension, as zeekctl's
// bin/make-archive-name does: the day of its opening, and the times of opening and closing.
func (l *Logger) archiveName(r *rotation) string {
	opened, closed := r.opened.In(l.location), r.closed.In(l.location)
	return opened.Format(dayLayout) + "/" + r.name + "." + opened.Format(clockLayout) + "-" +
		closed.Format(clockLayout) + l.dashName()
}

// archiveTemp returns the temporary name of a file that will be called base. zeek-archiver uses the
// same prefix.
func archiveTemp(base string) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return tempPrefix + hex.EncodeToString(random[:]) + "." + base
}

const tempPrefix = ".tmp."

// toArchive moves a log to the archive and returns its path there.
func (l *Logger) toArchive(r *rotation) (string, error) {
	how := l.compress
	if l.compressed(r.ext) {
		how = Compression{}
	}
	target, err := l.moveTo(l.archive, r, l.archiveName(r), how)
	if err == nil {
		l.archived(target)
	}
	return target, err
}

// copyInto copies a log into dst and removes the original after the copy is on disk under its final
// name. to has no extension; its folder exists.
func (l *Logger) copyInto(dst *os.Root, r *rotation, to string, how Compression) (target string,
	err error) {
	if how != (Compression{}) {
		memory := l.compress.memory()
		if !l.compressing.Acquire(l.giveUpRotations, l.giveUpRotations, memory) {
			return "", l.giveUpRotations.Err()
		}
		defer l.compressing.Release(memory)
	}
	in, err := r.in.Open(r.src)
	if err != nil {
		return "", err
	}
	defer in.Close()
	tmp := path.Join(path.Dir(to), archiveTemp(path.Base(to)))
	if err = copyFile(dst, tmp, in, how, l.copyTo); err == nil {
		target, err = freeName(to, r.ext+how.ext(),
			func(target string) error { return l.giveName(r, dst, tmp, dst, target) })
	}
	if err != nil {
		_ = dst.Remove(tmp)
		return "", err
	}
	l.removeCopied(r)
	return target, nil
}

// removeCopied removes the original of a log whose copy has its final name.
func (l *Logger) removeCopied(r *rotation) {
	if err := r.in.Remove(r.src); err != nil {
		// Another attempt would archive the log twice.
		l.rotationFailed(err)
		l.log.Error("a log is archived, but its original cannot be removed: remove it",
			"file", l.inLogDir(r.src), "err", err)
	}
}

// copyFile copies in to the new file name of dst and syncs it.
func copyFile(dst *os.Root, name string, in *os.File, how Compression,
	through func(io.Writer) io.Writer) error {
	out, err := dst.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	w := through(out)
	if codec := how.codec(); codec == nil {
		_, err = io.Copy(w, in)
	} else {
		err = codec.compress(w, in, how.Level)
	}
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// compress writes the compressed content of in to w.
func (c *codec) compress(w io.Writer, in *os.File, level int) error {
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	z, err := c.newWriter(w, level, fi)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	return z.Close()
}

// findCopy looks for a copy of a log in dst, compressed or not: the logger may have been killed
// before it removed the original.
func (l *Logger) findCopy(dst *os.Root, r *rotation, to string) (target string, found bool) {
	forms := append([]codec{{newReader: func(r io.Reader) (io.ReadCloser,
		error) {
		return io.NopCloser(r), nil
	}}}, codecs...)
	for i := range maxSameName {
		taken := false
		for _, form := range forms {
			target := numberedName(to, i, r.ext+form.ext)
			fi, err := dst.Lstat(target)
			taken = taken || err == nil
			if err == nil && fi.Mode().IsRegular() && l.isCopy(dst, target, form, r) {
				return target, true
			}
		}
		if !taken {
			break
		}
	}
	return "", false
}

// isCopy reports whether a file of dst has the content of a log. A file that cannot be read is no
// copy.
func (l *Logger) isCopy(dst *os.Root, name string, form codec, r *rotation) bool {
	original, err := r.in.Open(r.src)
	if err != nil {
		return false
	}
	defer original.Close()
	f, err := dst.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := form.newReader(f)
	if err != nil {
		return false
	}
	defer text.Close()
	return sameContent(original, text)
}

// sameContent reports whether a and b have the same bytes.
func sameContent(a, b io.Reader) bool {
	bufA, bufB := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false
		}
		if errA != nil || errB != nil {
			return atEnd(errA) && atEnd(errB)
		}
	}
}

// atEnd reports whether io.ReadFull met the end of its input, with a full buffer or not.
func atEnd(err error) bool { return errors.Is(err, io.EOF) || err == io.ErrUnexpectedEOF }
