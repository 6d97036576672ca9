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

// A shadow file stands beside each open log while LogAscii::enable_leftover_log_rotation
// is on or rotated logs go to an archive, so that after a crash the next start finds what was open. It has two
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
	return (l.options.LeftoverRotation || l.archive != "") && l.rotates()
}

// writeShadow makes the shadow of the log name, without extension. It appears
// with all its content or not at all.
func (l *Logger) writeShadow(name string) error {
	name += l.ext
	tmp := path.Join(path.Dir(name), tmpShadowPrefix+path.Base(name))
	if err := writeSynced(l.folder(), tmp, l.ext+"\n\n"); err != nil {
		return err
	}
	return l.folder().Rename(tmp, shadowOf(name))
}

// removeShadow removes the shadow of the log that has or had the name file, if there is one.
func (l *Logger) removeShadow(file string) {
	if err := l.folder().Remove(shadowOf(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.state.failed(err)
		l.log.Error("shadow file cannot be removed", "file", file, "err", err)
	}
}

// rotateLeftovers takes up what a logger left that crashed: logs on their way to their final name, and logs that
// have a shadow, in the log folder or below it. It removes shadows without a log. What it cannot rotate it leaves
// and logs.
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

// findShadows returns the names of all files that have a shadow, in the log folder or below it. It removes shadows
// that were not finished. Folders of rotated logs have none.
func (l *Logger) findShadows() (files []string, err error) {
	var errs []error
	err = fs.WalkDir(l.folder().FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			errs = append(errs, err) // of one folder; the others are looked at
			return nil
		}
		if d.IsDir() {
			if name == workDir || l.holdsRotated(name) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasPrefix(d.Name(), tmpShadowPrefix) { // the crash came before its name
			errs = append(errs, l.folder().Remove(name))
		} else if file, ok := strings.CutPrefix(d.Name(), shadowPrefix); ok {
			files = append(files, path.Join(path.Dir(name), file))
		}
		return nil
	})
	return files, errors.Join(append(errs, err)...)
}

// holdsRotated reports whether a folder below the log folder is where rotated logs go.
func (l *Logger) holdsRotated(name string) bool {
	dir := l.inLogDir(name)
	return dir == l.archive || l.options.RotationDir != "" && dir == l.resolve(l.options.RotationDir)
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
	shadow, err := l.folder().Lstat(shadowOf(file))
	if err != nil {
		return err
	}
	r := &rotation{name: name, opened: changeTime(shadow), closed: fi.ModTime(), leftover: true, owned: true, ext: ext, file: file}
	if l.options.GzipLevel > 0 && l.archive == "" {
		r.name += "." + l.suffix // as in Zeek: conn.log.2006-01-02-15-04-05.log.gz
	}
	return l.takeAway(nil, r)
}

// readShadow returns the extension that the shadow of file names.
func (l *Logger) readShadow(file string) (string, error) {
	b, err := readShort(l.folder(), shadowOf(file))
	if err != nil {
		return "", err
	}
	ext, _, _ := strings.Cut(string(b), "\n")
	return ext, nil
}

// writeSynced writes a file that the logger needs for itself; its content is on disk then.
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

// readShort reads a file that writeSynced wrote: it is not large.
func readShort(in *folder, name string) ([]byte, error) {
	f, err := in.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
