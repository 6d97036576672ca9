package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"zmtpd/pipeline/redef"
)

// nextRotation returns the first tick after now. Ticks are whole intervals after the base time of
// the day, or after 1970 UTC. The day begins at midnight at the UTC offset of now, as in Zeek's
// calc_next_rotate (src/util.cc). So when the clocks change, the day's last file ends at the old
// midnight, and all later files begin at the new one.
func (l *Logger) nextRotation(now time.Time) time.Time {
	now = now.In(l.location).Round(0)
	interval := l.options.RotationInterval
	start := time.Unix(0, 0)
	if l.options.RotationBase >= 0 {
		h, m, s := now.Clock()
		sinceMidnight := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute +
			time.Duration(s)*time.Second + time.Duration(now.Nanosecond())
		start = now.Add(l.options.RotationBase - sinceMidnight)
	}
	since := now.Sub(start)
	n := since / interval
	if since >= 0 || since%interval == 0 {
		n++ // division rounds towards zero
	}
	return start.Add(n * interval)
}

// rotates reports whether logs are rotated, by time or size.
func (l *Logger) rotates() bool {
	return (l.options.RotationInterval > 0 || l.maxFileSize > 0) && !l.options.Stdout
}

// rotatedLayout is the form of times in the names of rotated logs.
const rotatedLayout = "2006-01-02-15-04-05"

// rotatedName returns the name of a rotated log, without extension, as Zeek's
// Log::rotation_format_func does (scripts/base/frameworks/logging/main.zeek). The name of the
// logger keeps it apart from those of other loggers.
func (l *Logger) rotatedName(r *rotation) string {
	opened := r.opened.In(l.location).Format(rotatedLayout)
	if l.options.RotationFormat == redef.RotationFormatArchiver {
		to := r.name + "__" + opened + "__" + r.closed.In(l.location).Format(rotatedLayout) + "__"
		if l.name != "" {
			to += "log_suffix=" + l.name + "__"
		}
		return to
	}
	return r.name + "." + opened + l.dashName()
}

// dashName returns the name of the logger for the end of a file name.
func (l *Logger) dashName() string {
	if l.name == "" {
		return ""
	}
	return "-" + l.name
}

// rotatedReserve returns the largest number of bytes that rotation adds to a name.
func (l *Logger) rotatedReserve() int {
	r := &rotation{}
	n := max(len(l.rotatedName(r)), len(path.Base(l.archiveName(r))))
	if l.archive != "" {
		n += len(archiveTemp("")) + len(l.compress.ext())
	}
	return n
}

// place gives a closed log its final name, and returns its path.
func (l *Logger) place(r *rotation) (string, error) {
	if l.archive != "" {
		return l.toArchive(r)
	}
	to := l.rotatedName(r)
	if dir := l.options.RotationDir; dir != "" {
		moved, err := l.moveTo(l.resolve(dir), r, to, Compression{})
		if err == nil {
			return moved, nil
		}
		l.rotationFailed(err)
		l.log.Error("a log cannot be moved to the rotation folder, it stays in the log folder",
			"path", r.name, "err", err)
	}
	return l.moveWithin(r.in.Root, r, to, Compression{})
}

// moveTo moves a log to the folder dir, which it makes.
func (l *Logger) moveTo(dir string, r *rotation, to string, how Compression) (string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	return l.moveWithin(root, r, to, how)
}

// moveWithin moves a log to the name to in dst, without extension, and compresses it on the way. It
// adds a number to a name that is taken, and never replaces a file. It returns the new path.
func (l *Logger) moveWithin(dst *os.Root, r *rotation, to string, how Compression) (string, error) {
	if dir := path.Dir(to); dir != "." {
		if err := dst.MkdirAll(dir, 0o777); err != nil {
			return "", err
		}
	}
	target, err := l.moveOrCopy(dst, r, to, how)
	if err != nil {
		return "", err
	}
	return filepath.Join(dst.Name(), filepath.FromSlash(target)), nil
}

// moveOrCopy does the work of moveWithin and returns the log's name in dst.
func (l *Logger) moveOrCopy(dst *os.Root, r *rotation, to string, how Compression) (string, error) {
	if r.found {
		if target, ok := l.findCopy(dst, r, to); ok {
			l.noteCall(r, dst, target)
			l.removeCopied(r)
			return target, nil
		}
	}
	if how == (Compression{}) {
		target, err := freeName(to, r.ext,
			func(target string) error { return l.giveName(r, r.in.Root, r.src, dst, target) })
		if !crossDevice(err) {
			return target, err
		}
	}
	return l.copyInto(dst, r, to, how)
}

// giveName notes the post-processor's call and moves a log, or its copy, to its final name. The
// error is fs.ErrExist if the name is taken.
func (l *Logger) giveName(r *rotation, src *os.Root, old string, dst *os.Root,
	target string) error {
	if _, err := dst.Lstat(target); err == nil {
		return fs.ErrExist // as from renameNew, but without a note
	}
	l.noteCall(r, dst, target)
	return renameNew(src, old, dst, target)
}

// maxSameName is how many numbers are tried for a name.
const maxSameName = 9999

// numberedName returns the i-th name that is tried.
func numberedName(to string, i int, ext string) string {
	if i == 0 {
		return to + ext
	}
	return fmt.Sprintf("%s_%d%s", to, i, ext) // sorts behind the name without a number
}

// freeName calls use with the name to, then with numbered names, until one is free.
func freeName(to, ext string, use func(target string) error) (string, error) {
	for i := range maxSameName {
		target := numberedName(to, i, ext)
		if err := use(target); !errors.Is(err, fs.ErrExist) {
			return target, err
		}
	}
	return "", fmt.Errorf("%s: there are %d files of that name: %w", to+ext, maxSameName,
		fs.ErrExist)
}

// moveAside rotates an existing file that has the name of a log, without extension. Zeek would
// truncate it. Like that of a leftover log, its rotated name has the times of its file.
func (l *Logger) moveAside(s *streamLog, name string, fi os.FileInfo) error {
	r := &rotation{name: name, opened: fi.ModTime(), closed: fi.ModTime(), leftover: true}
	if shadow, err := l.folder().Lstat(shadowOf(name + l.ext)); err == nil {
		r.opened = changeTime(shadow)
		r.owned = true
	}
	return l.takeAway(s, r)
}
