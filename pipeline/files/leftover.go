package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// A shadow file stands beside each open log while LogAscii::enable_leftover_log_rotation is on or
// rotated logs go to an archive. It tells the next start after a crash which logs were open. It has
// two lines: the log's extension with its dot, and the name of the filter's post-processor
// function, empty for the default one (Zeek's src/logging/writers/ascii/Ascii.cc).

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
	return (l.options.LeftoverRotation || l.archive != "") && l.rotates()
}

// writeShadow makes the shadow of a log; name has no extension. The shadow appears with all its
// content or not at all.
func (l *Logger) writeShadow(name string) error {
	name += l.ext
	tmp := path.Join(path.Dir(name), tmpShadowPrefix+path.Base(name))
	if err := writeSynced(l.folder(), tmp, l.ext+"\n\n"); err != nil {
		return err
	}
	return l.folder().Rename(tmp, shadowOf(name))
}

// removeShadow removes the shadow of a log file, if there is one.
func (l *Logger) removeShadow(file string) {
	if err := l.folder().Remove(shadowOf(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.state.failed(err)
		l.log.Error("the shadow of a log cannot be removed", "file", file, "err", err)
	}
}

// rotateLeftovers rotates the logs of a logger that crashed: those that were on their way to their
// final name, and those that have a shadow, in the log folder or below it. It removes shadows
// without a log. Errors are logged; the logs stay where they are.
func (l *Logger) rotateLeftovers() {
	errs := []error{l.resumeRotations()}
	if l.shadows() || l.options.LeftoverRotation {
		shadows, err := l.findShadows()
		errs = append(errs, err)
		for _, file := range shadows {
			if err := l.rotateLeftover(file); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", file, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		l.state.failed(err)
		l.log.Error("leftover logs cannot be rotated", "err", err)
	}
}

// findShadows returns the names of all files that have a shadow, in the log folder or below it, but
// not in folders of rotated logs. It removes unfinished shadows.
func (l *Logger) findShadows() (files []string, err error) {
	var errs []error
	err = fs.WalkDir(l.folder().FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			errs = append(errs, err) // of one folder; the walk goes on
			return nil
		}
		if d.IsDir() {
			if name == workDir || l.holdsRotated(name) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasPrefix(d.Name(), tmpShadowPrefix) { // unfinished
			errs = append(errs, l.folder().Remove(name))
		} else if file, ok := strings.CutPrefix(d.Name(), shadowPrefix); ok {
			files = append(files, path.Join(path.Dir(name), file))
		}
		return nil
	})
	return files, errors.Join(append(errs, err)...)
}

// holdsRotated reports whether rotated logs go to a folder below the log folder.
func (l *Logger) holdsRotated(name string) bool {
	dir := l.inLogDir(name)
	return dir == l.archive || l.options.RotationDir != "" &&
		dir == l.resolve(l.options.RotationDir)
}

// rotateLeftover rotates the log file that has a shadow.
func (l *Logger) rotateLeftover(file string) error {
	fi, err := l.folder().Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l.folder().Remove(shadowOf(file))
	}
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	ext, err := l.readShadow(file)
	if err != nil {
		return err
	}
	name, ok := strings.CutSuffix(file, ext)
	if !ok || name == "" || ext != l.ext {
		return errors.New("its shadow names an extension that it does not have, " +
			"or that logs do not have now: move both away")
	}
	shadow, err := l.folder().Lstat(shadowOf(file))
	if err != nil {
		return err
	}
	r := &rotation{name: name, opened: changeTime(shadow), closed: fi.ModTime(), leftover: true,
		owned: true, ext: ext, file: file}
	if l.options.GzipLevel > 0 && l.archive == "" {
		r.name += "." + l.suffix // as in Zeek: conn.log.2006-01-02-15-04-05.log.gz
	}
	return l.takeAway(nil, r)
}

// readShadow returns the extension in the shadow of file.
func (l *Logger) readShadow(file string) (string, error) {
	b, err := readShort(l.folder(), shadowOf(file))
	if err != nil {
		return "", err
	}
	ext, _, _ := strings.Cut(string(b), "\n")
	return ext, nil
}

// writeSynced writes and syncs a small file.
func writeSynced(in *folder, name, content string) error {
	f, err := in.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// readShort reads a file of writeSynced, at most 64 KiB.
func readShort(in *folder, name string) ([]byte, error) {
	f, err := in.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
