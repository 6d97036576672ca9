package files

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"zmtpd/pipeline/internal/await"
)

// rotation is a closed log on its way to its final name. With the lock of the log held, it only
// moves to its own folder below workDir, which is quick. Sync, compression, the move to the archive
// and the post-processor happen in the background. After a crash either the log or the note of its
// post-processor's call is in that folder, and the next start goes on from there.
type rotation struct {
	name           string // of the log, without extension
	opened, closed time.Time
	leftover       bool // of an earlier logger
	owned          bool // a logger wrote it, which may have been killed: repair it
	found          bool // was in workDir at the start: there may be a copy with its final name
	terminating    bool

	file string  // the name of the log file before it was moved
	in   *folder // the log folder that src and work are in
	f    file    // to be synced and closed, nil when it is
	ext  string  // of src, with dot
	src  string  // where the file is now
	work string  // its folder below workDir, empty for none
	note bool    // work has a note of the post-processor's call
}

// workDir is the folder of rotated logs without their final name, in the log folder.
const workDir = ".rotating"

// Limits for work in the background.
const (
	maxRotations      = 32 // files that are synced and moved at a time
	maxPostprocessors = 16 // post-processors that run at a time
	maxPostprocQueue  = 10_000
)

// takeAway moves the file with the name r.name away, so that the name is free, and leaves the rest
// to the background. s is nil at the start. If the file cannot be moved to workDir, takeAway does
// everything itself. Its errors are of this case; they are counted and logged.
func (l *Logger) takeAway(s *streamLog, r *rotation) error {
	if r.ext == "" {
		r.ext = l.ext
	}
	r.terminating = l.terminating.Load()
	if r.file == "" {
		r.file = r.name + r.ext
	}
	r.src = r.file
	r.in = l.useFolder()
	defer r.in.release()
	work, err := l.makeWork(r)
	if err == nil {
		to := path.Join(work, r.name+r.ext)
		err = r.in.MkdirAll(path.Dir(to), 0o777)
		if err == nil {
			err = r.in.Rename(r.src, to)
		}
		if err == nil {
			l.removeShadow(r.file)
			r.src, r.work = to, work
			l.background(s, r)
			return nil
		}
		l.removeWork(r.in, work, path.Dir(r.name))
	}
	// The disk is full, or a folder in the log's path is a mount point.
	l.closeRotated(r)
	if err := l.finishRotation(r); err != nil {
		l.rotationFailed(err)
		l.log.Error("a log cannot be rotated, it keeps its name until the next file needs it",
			"path", r.name, "err", err)
		return err
	}
	l.removeShadow(r.file)
	return nil
}

// makeWork makes a folder for r, with the times of r in its name.
func (l *Logger) makeWork(r *rotation) (string, error) {
	if err := r.in.MkdirAll(workDir, 0o777); err != nil {
		return "", err
	}
	base := path.Join(workDir, fmt.Sprintf("%d-%d", r.opened.Unix(), r.closed.Unix()))
	work := base
	for i := 1; ; i++ {
		err := r.in.Mkdir(work, 0o777)
		if !errors.Is(err, fs.ErrExist) {
			return work, err
		}
		work = fmt.Sprintf("%s-%d", base, i)
	}
}

// leaveWork removes the folder of a rotation, but keeps a note of the post-processor's call.
func (l *Logger) leaveWork(r *rotation) {
	switch {
	case r.work == "":
	case r.note:
		removeFolders(r.in, r.work, path.Dir(r.name))
	default:
		l.removeWork(r.in, r.work, path.Dir(r.name))
	}
}

// removeWork removes the empty folder of a rotation; the log was in its sub-folder sub.
func (l *Logger) removeWork(in *folder, work, sub string) {
	removeFolders(in, work, sub)
	if err := in.Remove(work); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.state.failed(err)
	}
}

// removeFolders removes the empty folder sub of work, and the folders between them.
func removeFolders(in *folder, work, sub string) {
	for ; sub != "." && sub != "/"; sub = path.Dir(sub) {
		_ = in.Remove(path.Join(work, sub))
	}
}

// background finishes r in a goroutine, after the rotation of the same log before it, so that
// numbers in names are in order.
func (l *Logger) background(s *streamLog, r *rotation) {
	var before chan struct{}
	done := make(chan struct{})
	if s != nil {
		before, s.last = s.last, done
	}
	l.state.rotating(func(st *RotationStats) { st.Pending++ })
	r.in.users.Add(1)
	l.rotations.Go(func() {
		defer close(done)
		defer r.in.release()
		if before != nil {
			<-before
		}
		l.rotationSlots.acquire()
		defer l.rotationSlots.release()
		defer l.state.rotating(func(st *RotationStats) { st.Pending-- })
		l.closeRotated(r)
		backoff := await.Backoff{Max: maxRotationBackoff}
		for {
			err := l.finishRotation(r)
			if err == nil {
				return
			}
			l.rotationFailed(err)
			if _, e := r.in.Lstat(r.src); gone(e) {
				l.log.Error("a rotated log was removed before it had its final name",
					"path", r.name, "file", l.inLogDir(r.src))
				l.leaveWork(r)
				return
			}
			l.log.Error("a rotated log cannot get its final name, another attempt follows",
				"path", r.name,
				"file", l.inLogDir(r.src), "err", err)
			if !backoff.Sleep(l.giveUpRotations, l.giveUpRotations) {
				return
			}
		}
	})
}

// maxRotationBackoff is the longest time between two attempts.
const maxRotationBackoff = time.Minute

func (l *Logger) closeRotated(r *rotation) {
	if r.f != nil {
		l.closeFile(r.f, r.name)
		r.f = nil
	}
}

func (l *Logger) rotationFailed(err error) {
	l.state.failed(err)
	l.state.rotating(func(st *RotationStats) { st.Failures++ })
}

// inLogDir returns the absolute path of a name in the log folder.
func (l *Logger) inLogDir(name string) string {
	return filepath.Join(l.logDir, filepath.FromSlash(name))
}

// finishRotation gives r its final name and calls the post-processor. On error it can be called
// again.
func (l *Logger) finishRotation(r *rotation) error {
	if r.owned {
		if err := l.repair(r); err != nil {
			return err
		}
	}
	to, err := l.place(r)
	if err != nil {
		return err
	}
	l.leaveWork(r)
	l.state.rotating(func(st *RotationStats) { st.Rotated++ })
	if r.leftover {
		l.log.Info("a leftover log was rotated", "old", l.inLogDir(r.file), "new", to)
	}
	l.postprocess(r, to)
	return nil
}

// resumeRotations finishes the rotations of an earlier logger.
func (l *Logger) resumeRotations() error {
	in := l.folder()
	works, err := fs.ReadDir(in.FS(), workDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range works {
		work := path.Join(workDir, d.Name())
		opened, closed, ok := parseWork(d.Name())
		if !ok || !d.IsDir() {
			errs = append(errs, fmt.Errorf("%s was not made by a logger: move it away",
				l.inLogDir(work)))
			continue
		}
		logs, noted, err := l.listWork(in, work)
		errs = append(errs, err)
		note := path.Join(work, callNote)
		switch {
		case len(logs) > 0:
			if noted { // a new note follows
				errs = append(errs, in.Remove(note))
			}
			for _, r := range logs {
				r.opened, r.closed = opened, closed
				l.background(nil, r)
			}
		case err != nil:
		case noted:
			errs = append(errs, l.resumeCall(&rotation{in: in, opened: opened, closed: closed,
				work: work, note: true}))
		default:
			_ = in.RemoveAll(work) // nothing but folders
		}
	}
	return errors.Join(errs...)
}

// listWork returns the logs in a folder of workDir, and whether there is a note of a
// post-processor's call.
func (l *Logger) listWork(in *folder, work string) (logs []*rotation, noted bool, err error) {
	err = fs.WalkDir(in.FS(), work, func(src string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		file := strings.TrimPrefix(src, work+"/")
		if file == callNote {
			noted = true
			return nil
		}
		if strings.HasPrefix(path.Base(src), repairTemp) {
			return in.Remove(src)
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file", l.inLogDir(src))
		}
		ext := l.extOf(file)
		logs = append(logs, &rotation{
			name: strings.TrimSuffix(file, ext), leftover: true, owned: true, found: true,
			in: in, file: src, ext: ext, src: src, work: work,
		})
		return nil
	})
	return logs, noted, err
}

// extOf returns the extension of a log, which a logger with other options may have written.
func (l *Logger) extOf(file string) string {
	for _, ext := range []string{l.ext, "." + l.suffix + "." + l.options.GzipExtension,
		"." + l.suffix} {
		if strings.HasSuffix(file, ext) {
			return ext
		}
	}
	return path.Ext(file)
}

// parseWork parses the name of a folder of makeWork.
func parseWork(name string) (opened, closed time.Time, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 2 && len(parts) != 3 {
		return
	}
	var seconds [2]int64
	for i := range seconds {
		var err error
		if seconds[i], err = strconv.ParseInt(parts[i], 10, 64); err != nil {
			return
		}
	}
	return time.Unix(seconds[0], 0), time.Unix(seconds[1], 0), true
}

// leftInWork returns the numbers of logs and of post-processor calls that are left in workDir. It
// removes workDir if it is empty.
func (l *Logger) leftInWork() (logs, calls int) {
	in := l.folder()
	works, err := fs.ReadDir(in.FS(), workDir)
	if err == nil && len(works) == 0 {
		_ = in.Remove(workDir)
	}
	for _, d := range works {
		files, _ := fs.ReadDir(in.FS(), path.Join(workDir, d.Name()))
		noted := slices.ContainsFunc(files,
			func(d fs.DirEntry) bool { return d.Name() == callNote })
		if noted && len(files) == 1 {
			calls++
		} else {
			logs++
		}
	}
	return logs, calls
}
