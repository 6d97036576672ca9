package files

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// pruneInterval is how often the archive is pruned. It is pruned earlier when new logs take it over
// its size.
const pruneInterval = time.Hour

// archivedName matches the last element of an archived log's name, below the folder of its day. No
// other file is ever deleted.
var archivedName = regexp.MustCompile(`^.+\.\d\d[:.]\d\d[:.]\d\d-(\d\d[:.]\d\d[:.]\d\d)(-.+)?(_\d+)?\.[^/]+$`)

// archivedLog is a file in the archive.
type archivedLog struct {
	name string // in the archive
	at   time.Time
	size int64
}

// archived notes that a log was archived.
func (l *Logger) archived(file string) {
	if l.archiveMaxBytes == 0 {
		return
	}
	fi, err := os.Stat(file)
	if err == nil && l.archiveSize.Add(fi.Size()) > l.archiveMaxBytes {
		select {
		case l.pruneNow <- struct{}{}:
		default:
		}
	}
}

// runRetention prunes the archive at the start and then from time to time until stop is closed.
func (l *Logger) runRetention() {
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for {
		if err := l.prune(time.Now()); err != nil {
			l.state.failed(err)
			l.log.Error("archived logs that have expired cannot be deleted", "archive", l.archive,
				"err", err)
		}
		select {
		case <-l.stop:
			return
		case <-tick.C:
		case <-l.pruneNow:
		}
	}
}

// prune deletes the logs in the archive that are too old, and then the oldest ones until the others
// are within the limit. It also deletes the temporary files of a logger that was killed.
func (l *Logger) prune(now time.Time) error {
	root, err := os.OpenRoot(l.archive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	logs, total, err := l.listArchive(root, now)
	errs := []error{err}
	for _, a := range logs {
		tooOld := l.archiveMaxAge > 0 && now.Sub(a.at) > l.archiveMaxAge
		tooMuch := l.archiveMaxBytes > 0 && total > l.archiveMaxBytes
		if !tooOld && !tooMuch {
			continue
		}
		if err := root.Remove(a.name); err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // another logger was faster
				errs = append(errs, err)
				continue
			}
		} else {
			l.state.rotating(func(st *RotationStats) {
				st.Expired++
				st.ExpiredBytes += uint64(a.size)
			})
			l.log.Info("an archived log was deleted",
				"file", filepath.Join(l.archive, filepath.FromSlash(a.name)), "age", tooOld,
				"size", tooMuch)
		}
		total -= a.size
		for dir := path.Dir(a.name); dir != "."; dir = path.Dir(dir) {
			if root.Remove(dir) != nil {
				break // not empty
			}
		}
	}
	l.archiveSize.Store(total)
	return errors.Join(errs...)
}

// staleTemp is how long a temporary file must not have been written to be out of use.
const staleTemp = time.Hour

// listArchive returns the archived logs, the oldest first, and their total size.
func (l *Logger) listArchive(root *os.Root, now time.Time) (logs []archivedLog, total int64,
	err error) {
	days, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for _, day := range days {
		date, err := time.ParseInLocation(dayLayout, day.Name(), l.location)
		if err != nil || !day.IsDir() {
			continue
		}
		err = fs.WalkDir(root.FS(), day.Name(), func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return ignoreGone(err)
			}
			fi, err := d.Info()
			if err != nil {
				return ignoreGone(err)
			}
			if strings.HasPrefix(d.Name(), tempPrefix) && now.Sub(fi.ModTime()) > staleTemp {
				return ignoreGone(root.Remove(name))
			}
			m := archivedName.FindStringSubmatch(d.Name())
			if m == nil || strings.HasPrefix(d.Name(), tempPrefix) {
				return nil
			}
			closed, err := time.Parse(time.TimeOnly, strings.ReplaceAll(m[1], ".", ":"))
			if err != nil {
				return nil
			}
			// A log that ended on a later day is younger than this by at least a day.
			at := date.Add(time.Duration(closed.Hour())*time.Hour +
				time.Duration(closed.Minute())*time.Minute +
				time.Duration(closed.Second())*time.Second)
			if fi.ModTime().After(at) {
				at = fi.ModTime()
			}
			logs = append(logs, archivedLog{name, at, fi.Size()})
			total += fi.Size()
			return nil
		})
		errs = append(errs, err)
	}
	slices.SortFunc(logs, func(a, b archivedLog) int {
		return cmp.Or(a.at.Compare(b.at),
			strings.Compare(a.name, b.name))
	})
	return logs, total, errors.Join(errs...)
}

// ignoreGone returns err unless it says that a file is gone meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
