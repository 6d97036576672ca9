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

// nextRotation returns the first tick after now. Ticks are whole intervals from the base time after
// midnight, or from 1970 UTC. Midnight is that of the day which now is in, at the UTC offset of now, as in
// Zeek's calc_next_rotate (src/util.cc): so the files of a day on which the clocks change end at the old
// midnight, and all later ones begin at the new one.
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
		n++ // the division rounds towards zero
	}
	return start.Add(n * interval)
}

// rotates reports whether logs are rotated, by time or size.
func (l *Logger) rotates() bool {
	return (l.options.RotationInterval > 0 || l.maxFileSize > 0) && !l.options.Stdout
}

// rotatedLayout is the layout of the times in the names of rotated logs.
const rotatedLayout = "2006-01-02-15-04-05"

// rotatedName returns the name of a rotated log, without extension (spec 3.8). With a
// logger's name no other logger has the same.
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

// dashName is how the name of the logger stands at the end of a file name.
func (l *Logger) dashName() string {
	if l.name == "" {
		return ""
	}
	return "-" + l.name
}

// rotatedReserve returns how many bytes a rotated name has more than that of the
// open log, at most.
func (l *Logger) rotatedReserve() int {
	r := &rotation{}
	n := max(len(l.rotatedName(r)), len(path.Base(l.archiveName(r))))
	if l.archive != "" {
		n += len(archiveTemp("")) + len(l.compress.ext())
	}
	return n
}

// place gives a rotated log that is closed its final name, and returns its path.
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
		l.log.Error("log cannot be moved to the rotation directory, it is rotated within the log folder", "path", r.name, "err", err)
	}
	return l.moveWithin(r.in.Root, r, to, Compression{})
}

// moveTo moves a log to the directory dir, which it makes.
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

// moveWithin moves a log to the name to in dst, which has no extension, and compresses it on the way. It never replaces a
// file: if the name is taken it adds a number. It returns the new path.
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

// moveOrCopy returns the log's name in dst.
func (l *Logger) moveOrCopy(dst *os.Root, r *rotation, to string, how Compression) (string, error) {
	if r.found {
		if target, ok := l.findCopy(dst, r, to); ok {
			l.noteCall(r, dst, target)
			l.removeCopied(r)
			return target, nil
		}
	}
	if how == (Compression{}) {
		target, err := freeName(to, r.ext, func(target string) error { return l.giveName(r, r.in.Root, r.src, dst, target) })
		if !crossDevice(err) {
			return target, err
		}
	}
	return l.copyInto(dst, r, to, how)
}

// giveName moves a rotated log, or a copy of it, to its final name, if that is free. Before that the post-processor's call is noted.
func (l *Logger) giveName(r *rotation, src *os.Root, old string, dst *os.Root, target string) error {
	if _, err := dst.Lstat(target); err == nil {
		return fs.ErrExist // as renameNew would say, but this takes no note
	}
	l.noteCall(r, dst, target)
	return renameNew(src, old, dst, target)
}

// maxSameName is how many files there may be that would have the same name.
const maxSameName = 9999

// numberedName returns the i-th of the names that are tried.
func numberedName(to string, i int, ext string) string {
	if i == 0 {
		return to + ext
	}
	return fmt.Sprintf("%s_%d%s", to, i, ext) // sorts behind the one without
}

// freeName calls use with the name to, then with numbered names, until one is free.
func freeName(to, ext string, use func(target string) error) (string, error) {
	for i := range maxSameName {
		target := numberedName(to, i, ext)
		if err := use(target); !errors.Is(err, fs.ErrExist) {
			return target, err
		}
	}
	return "", fmt.Errorf("%s: there are %d files of that name: %w", to+ext, maxSameName, fs.ErrExist)
}

// moveAside takes away the file of the log name, without extension, that an
// earlier logger left: it is not truncated, as Zeek would do. Like a leftover
// log it is named after the times of its files.
func (l *Logger) moveAside(s *streamLog, name string, fi os.FileInfo) error {
	r := &rotation{name: name, opened: fi.ModTime(), closed: fi.ModTime(), leftover: true}
	if shadow, err := l.folder().Lstat(shadowOf(name + l.ext)); err == nil {
		r.opened = changeTime(shadow)
		r.owned = true
	}
	return l.takeAway(s, r)
}
