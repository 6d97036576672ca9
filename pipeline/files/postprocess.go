package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// callNote is the file in a rotation's folder that says how the post-processor is to be called. It is on disk before the log gets
// its final name, and is removed when the post-processor has ended; so a crash between the two lets the next start
// call it, perhaps again. No log has that name, since those have an extension.
const callNote = "postprocessor"

// noteFormat is what a note holds: the log's name, its path, and whether it was rotated at the end. The path is relative
// to the log folder if it is in there.
const noteFormat = "%q %q %d\n"

// noteCall makes the note for a log that is about to get the name target in dst. Without one, on a full disk
// say, the log is rotated nevertheless: the post-processor may be what makes room.
func (l *Logger) noteCall(r *rotation, dst *os.Root, target string) {
	if l.options.PostprocessorCmd == "" || r.work == "" {
		return
	}
	to := filepath.Join(dst.Name(), filepath.FromSlash(target))
	if rel, err := filepath.Rel(r.in.Name(), to); err == nil && filepath.IsLocal(rel) {
		to = rel
	}
	note := path.Join(r.work, callNote)
	if err := writeSynced(r.in, note, fmt.Sprintf(noteFormat, r.name, to, btoi(r.terminating))); err != nil {
		_ = r.in.Remove(note)
		r.note = false
		l.state.failed(err)
		l.log.Error("the post-processor's call cannot be noted, a crash now would prevent it", "path", r.name, "err", err)
		return
	}
	if dir, err := r.in.Open(r.work); err == nil {
		_ = dir.Sync() // not every system can
		dir.Close()
	}
	r.note = true
}

// resumeCall calls the post-processor that an earlier logger had noted for a log, which has its final name.
func (l *Logger) resumeCall(r *rotation) error {
	note := path.Join(r.work, callNote)
	text, err := readShort(r.in, note)
	if err != nil {
		return err
	}
	var to string
	var terminating int
	if _, err := fmt.Sscanf(string(text), noteFormat, &r.name, &to, &terminating); err != nil {
		l.forgetCall(r)
		return fmt.Errorf("%s is damaged: for the log that was rotated then the post-processor is not called", l.inLogDir(note))
	}
	r.terminating = terminating != 0
	if !filepath.IsAbs(to) {
		to = filepath.Join(r.in.Name(), to)
	}
	// Otherwise the post-processor was called, and the log was not to stay.
	_, err = os.Lstat(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || l.options.PostprocessorCmd == "" {
		l.log.Info("post-processor of an earlier logger is not called again", "file", to, "gone", err != nil)
		l.forgetCall(r)
		return nil
	}
	l.log.Info("post-processor is called for an earlier logger", "file", to)
	l.postprocess(r, to)
	return nil
}

// forgetCall removes the note of a call that is done.
func (l *Logger) forgetCall(r *rotation) {
	if !r.note {
		return
	}
	r.note = false
	err := r.in.Remove(path.Join(r.work, callNote))
	if errors.Is(err, fs.ErrClosed) {
		return // nobody waited for the post-processor; the next start calls it again
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.state.failed(err)
	}
	l.leaveWork(r)
}

// postprocess runs the post-processor for a rotated log in the background, as Zeek calls
// it (spec 3.8). to is the log's path.
func (l *Logger) postprocess(r *rotation, to string) {
	if l.options.PostprocessorCmd == "" {
		return
	}
	if rel, err := filepath.Rel(l.dir, to); err == nil && !l.absoluteTarget() {
		to = rel
	}
	const layout = "06-01-02_15.04.05"
	line := fmt.Sprintf("%s %s %s %s %s %d ascii", l.options.PostprocessorCmd, shellQuote(to), shellQuote(r.name),
		r.opened.In(l.location).Format(layout), r.closed.In(l.location).Format(layout), btoi(r.terminating))
	full := false
	l.state.rotating(func(st *RotationStats) {
		if full = st.PostprocessRunning >= maxPostprocQueue; full {
			st.PostprocessFailed++
		} else {
			st.PostprocessRunning++
		}
	})
	if full {
		l.postprocessFailed(to, fmt.Errorf("it is not called before the next start: %d others wait or hang", maxPostprocQueue))
		return
	}
	r.in.users.Add(1)
	l.postprocessors.Go(func() {
		defer r.in.release()
		l.waitForPostprocessors()
		defer l.postprocSlots.release()
		err := l.runPostprocessor(line)
		if !l.interrupted(err) {
			l.forgetCall(r)
		}
		l.state.rotating(func(st *RotationStats) {
			if st.PostprocessRunning--; st.PostprocessRunning < maxPostprocessors {
				l.postprocBehind.Store(false)
			}
			st.Postprocessed++
			if err != nil {
				st.PostprocessFailed++
			}
		})
		if err != nil {
			l.postprocessFailed(to, err)
		}
	})
}

// waitForPostprocessors waits until there is room for another post-processor, and logs if that takes long.
func (l *Logger) waitForPostprocessors() {
	const long = time.Minute
	news := time.AfterFunc(long, func() {
		if l.postprocBehind.CompareAndSwap(false, true) {
			l.log.Warn("post-processors take long, the next ones wait for them", "running", maxPostprocessors,
				"waiting", l.Stats().Rotation.PostprocessRunning-maxPostprocessors, "cmd", l.options.PostprocessorCmd)
		}
	})
	defer news.Stop()
	l.postprocSlots.acquire()
}

// interrupted reports whether a post-processor was killed because everything ends: systemd sends a signal to all processes of
// a service.
func (l *Logger) interrupted(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() < 0 && l.terminating.Load()
}

func (l *Logger) postprocessFailed(file string, err error) {
	err = fmt.Errorf("post-processor: %w", err)
	l.state.failed(err)
	l.log.Error("post-processor failed, the log stays where it is", "file", file, "cmd", l.options.PostprocessorCmd, "err", err)
}

// runPostprocessor runs a command line. If it takes longer than it may, it is killed with all that it has started.
func (l *Logger) runPostprocessor(line string) error {
	ctx, cancel := context.Background(), func() {}
	if l.postprocTimeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, l.postprocTimeout)
	}
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	inOwnGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.Dir = l.dir
	cmd.Env = os.Environ()
	for _, key := range slices.Sorted(maps.Keys(l.options.PostprocessorEnv)) {
		cmd.Env = append(cmd.Env, "ZEEK_ARG_"+key+"="+l.options.PostprocessorEnv[key])
	}
	said := &firstBytes{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = time.Second // it may have started something that keeps its output
	ended := make(chan error, 1)
	go func() { ended <- cmd.Run() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		select {
		case err = <-ended:
		case <-time.After(unkillable):
			return fmt.Errorf("it hangs since %v and cannot be killed", l.postprocTimeout)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("it was killed after %v: make it faster, or raise the limit (--postprocessor-timeout)", l.postprocTimeout)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if err != nil {
		if text := said.String(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
	}
	return err
}

// unkillable is how long a process that was killed may take to end before it is left alone: the file system that it
// uses hangs.
const unkillable = 10 * time.Second

// absoluteTarget reports whether rotated logs go to a directory that the operator
// gave as an absolute path, which the post-processor then gets too.
func (l *Logger) absoluteTarget() bool {
	dir := l.options.LogDir
	if l.options.RotationDir != "" {
		dir = l.options.RotationDir
	}
	if l.archive != "" {
		dir = l.archive
	}
	return filepath.IsAbs(filepath.FromSlash(dir))
}

// shellQuote quotes s for sh.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// firstBytes keeps the beginning of what a post-processor says.
type firstBytes struct{ b []byte }

func (f *firstBytes) Write(b []byte) (int, error) {
	const most = 1000
	f.b = append(f.b, b[:min(len(b), most-len(f.b))]...)
	return len(b), nil
}

func (f *firstBytes) String() string { return strings.TrimSpace(string(f.b)) }
