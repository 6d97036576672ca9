package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// nextRotation returns the first tick after now. Ticks are whole intervals from
// the base time of the local day that now is in, or from 1970 UTC (spec 3.8).
func (l *Logger) nextRotation(now time.Time) time.Time {
	now = now.In(l.location).Round(0)
	interval := l.options.RotationInterval
	start := time.Unix(0, 0)
	if l.options.RotationBase >= 0 {
		y, m, d := now.Date()
		start = time.Date(y, m, d, 0, 0, 0, 0, l.location).Add(l.options.RotationBase)
	}
	since := now.Sub(start)
	n := since / interval
	if since >= 0 || since%interval == 0 {
		n++ // the division rounds towards zero
	}
	return start.Add(n * interval)
}

// rotatedName returns the name of the log name, both without extension, that was
// opened at the time opened.
func (l *Logger) rotatedName(name string, opened time.Time) string {
	return name + "." + opened.In(l.location).Format("2006-01-02-15-04-05")
}

// moveRotated moves the closed log name, without extension, to its rotated name in
// the rotation directory, or in the log folder if that is not possible. It
// never replaces a file: if the name is taken it adds a number. It returns the
// new path. An error is counted and logged.
func (l *Logger) moveRotated(name string, opened time.Time) (string, error) {
	to := l.rotatedName(name, opened)
	if dir := l.options.RotationDir; dir != "" {
		moved, err := l.moveTo(l.resolve(dir), name, to)
		if err == nil {
			return moved, nil
		}
		l.acct.failed(err)
		l.log.Error("log cannot be moved to the rotation directory, it is rotated within the log folder", "path", name, "err", err)
	}
	moved, err := l.moveWithin(l.root, name, to)
	if err != nil {
		l.acct.failed(err)
		l.log.Error("log cannot be rotated, it keeps its name until the next one needs it", "path", name, "err", err)
	}
	return moved, err
}

// moveTo moves a file of the log folder to the directory dir, which it makes.
func (l *Logger) moveTo(dir, name, to string) (string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	return l.moveWithin(root, name, to)
}

// moveWithin moves the file name of the log folder to the name to in dst.
func (l *Logger) moveWithin(dst *os.Root, name, to string) (string, error) {
	if dir := path.Dir(to); dir != "." {
		if err := dst.MkdirAll(dir, 0o777); err != nil {
			return "", err
		}
	}
	const tries = 9999
	for i := range tries {
		target := to + l.ext
		if i > 0 {
			target = fmt.Sprintf("%s_%d%s", to, i, l.ext) // sorts behind the one without
		}
		err := renameNew(l.root, name+l.ext, dst, target)
		if err == nil {
			return filepath.Join(dst.Name(), filepath.FromSlash(target)), nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("%s: there are %d files of that name: %w", to+l.ext, tries, fs.ErrExist)
}

// moveAside takes away the file of the log name, without extension, that an
// earlier logger left: it is not truncated, as Zeek would do. Like a leftover
// log it is named after the times of its files.
func (l *Logger) moveAside(name string, fi os.FileInfo) error {
	opened := fi.ModTime()
	shadow, err := l.root.Lstat(shadowOf(name + l.ext))
	if err == nil {
		opened = changeTime(shadow)
	}
	moved, err := l.moveRotated(name, opened)
	if err != nil {
		return err
	}
	if shadow != nil {
		l.removeShadow(name)
	}
	l.log.Info("rotated leftover log", "old", filepath.Join(l.root.Name(), filepath.FromSlash(name+l.ext)), "new", moved)
	return nil
}
