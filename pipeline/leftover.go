package pipeline

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// A shadow file stands beside each open log while LogAscii::enable_leftover_log_rotation
// is on, so that after a crash the next start finds what was open. It has two
// lines: the log's extension with its dot, and the name of the filter's
// post-processor function, empty for the default one (spec 3.7).

const (
	shadowPrefix    = ".shadow."
	tmpShadowPrefix = ".tmp" + shadowPrefix
)

// shadowOf returns the name of the shadow of the file name.
func shadowOf(name string) string {
	return path.Join(path.Dir(name), shadowPrefix+path.Base(name))
}

// shadows reports whether open logs have a shadow.
func (l *Logger) shadows() bool {
	return l.options.LeftoverRotation && l.options.RotationInterval > 0
}

// writeShadow makes the shadow of the log name, without extension. It appears
// with all its content or not at all.
func (l *Logger) writeShadow(name string) error {
	name += l.ext
	tmp := path.Join(path.Dir(name), tmpShadowPrefix+path.Base(name))
	f, err := l.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(l.ext + "\n\n")
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return l.root.Rename(tmp, shadowOf(name))
}

// removeShadow removes the shadow of the log name, without extension.
func (l *Logger) removeShadow(name string) {
	if err := l.root.Remove(shadowOf(name + l.ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.acct.failed(err)
		l.log.Error("shadow file cannot be removed", "path", name, "err", err)
	}
}

// rotateLeftovers rotates the logs in the log folder that have a shadow, because
// a logger crashed, and removes shadows that have no log. What it cannot rotate it
// leaves and logs.
func (l *Logger) rotateLeftovers() {
	dir, err := l.root.Open(".")
	if err == nil {
		defer dir.Close()
		var names []string
		names, err = dir.Readdirnames(-1)
		for _, shadow := range names {
			if name, ok := strings.CutPrefix(shadow, shadowPrefix); ok && err == nil {
				if err := l.rotateLeftover(name); err != nil {
					l.acct.failed(err)
					l.log.Error("leftover log cannot be rotated", "file", name, "err", err)
				}
			}
		}
	}
	if err != nil {
		l.acct.failed(err)
		l.log.Error("leftover logs cannot be looked for", "err", err)
	}
}

// rotateLeftover rotates the log file that has a shadow.
func (l *Logger) rotateLeftover(file string) error {
	fi, err := l.root.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l.root.Remove(shadowOf(file))
	}
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	ext, err := l.readShadow(file)
	if err != nil {
		return err
	}
	name, ok := strings.CutSuffix(file, ext)
	if !ok || name == "" || ext != l.ext {
		return errors.New("its shadow names another extension than it has, or than logs have now: move both away")
	}
	return l.moveAside(name, fi)
}

// readShadow returns the extension that the shadow of file names.
func (l *Logger) readShadow(file string) (string, error) {
	f, err := l.root.Open(shadowOf(file))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", err
	}
	ext, _, _ := strings.Cut(string(b), "\n")
	return ext, nil
}
