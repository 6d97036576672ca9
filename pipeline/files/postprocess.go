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

// callNote is a file in a rotation's folder that tells how to call the post-processor. It is on
// disk before the log gets its final name, and is removed when the post-processor has ended. After
// a crash between the two the next start calls the post-processor, perhaps again. No log has this
// name, since all logs have an extension.
const callNote = "postprocessor"

// noteFormat is the content of a note: the log's name, its path, and whether it was rotated at the
// end of the logger. The path of a log in the log folder is relative to that.
const noteFormat = "%q %q %d\n"

// noteCall makes the note for a log that is about to get the name target in dst. If that fails,
// such as on a full disk, the log is rotated nevertheless: the post-processor may be what makes
// room.
func (l *Logger) noteCall(r *rotation, dst *os.Root, target string) {
	if l.options.PostprocessorCmd == "" || r.work == "" {
		return
	}
	to := filepath.Join(dst.Name(), filepath.FromSlash(target))
	if rel, err := filepath.Rel(r.in.Name(), to); err == nil && filepath.IsLocal(rel) {
		to = rel
	}
	note := path.Join(r.work, callNote)
	if err := writeSynced(r.in, note,
		fmt.Sprintf(noteFormat, r.name, to, btoi(r.terminating))); err != nil {
		_ = r.in.Remove(note)
		r.note = false
		l.state.failed(err)
		l.log.Error("the call of the post-processor cannot be noted and would not survive a crash",
			"path", r.name, "err", err)
		return
	}
	if dir, err := r.in.Open(r.work); err == nil {
		_ = dir.Sync() // not every system can
		dir.Close()
	}
	r.note = true
}

// resumeCall makes a call of the post-processor that an earlier logger has noted. The log has its
// final name.
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
		return fmt.Errorf("%s is damaged: the post-processor is not called for this log",
			l.inLogDir(note))
	}
	r.terminating = terminating != 0
	if !filepath.IsAbs(to) {
		to = filepath.Join(r.in.Name(), to)
	}
	// A log that is gone was removed by its post-processor.
	_, err = os.Lstat(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || l.options.PostprocessorCmd == "" {
		l.log.Info("a post-processor of an earlier logger is not called again", "file", to,
			"gone", err != nil)
		l.forgetCall(r)
		return nil
	}
	l.log.Info("a post-processor is called for an earlier logger", "file", to)
	l.postprocess(r, to)
	return nil
}

// forgetCall removes the note of a call that has ended.
func (l *Logger) forgetCall(r *rotation) {
	if !r.note {
		return
	}
	r.note = false
	err := r.in.Remove(path.Join(r.work, callNote))
	if errors.Is(err, fs.ErrClosed) {
		return // the logger has ended; the next start calls it again
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.state.failed(err)
	}
	l.leaveWork(r)
}

// postprocess runs the post-processor for a rotated log in the background, with the arguments of
// Zeek's run_rotation_postprocessor_cmd (scripts/base/frameworks/logging/main.zeek). to is the path
// of the log.
func (l *Logger) postprocess(r *rotation, to string) {
	if l.options.PostprocessorCmd == "" {
		return
	}
	if rel, err := filepath.Rel(l.dir, to); err == nil && !l.absoluteTarget() {
		to = rel
	}
	const layout = "06-01-02_15.04.05"
	line := fmt.Sprintf("%s %s %s %s %s %d ascii", l.options.PostprocessorCmd, shellQuote(to),
		shellQuote(r.name),
		r.opened.In(l.location).Format(layout), r.closed.In(l.location).Format(layout),
		btoi(r.terminating))
	full := false
	l.state.rotating(func(st *RotationStats) {
		if full = st.PostprocessRunning >= maxPostprocQueue; full {
			st.PostprocessFailed++
		} else {
			st.PostprocessRunning++
		}
	})
	if full {
		l.postprocessFailed(to,
			fmt.Errorf("it is called at the next start only, since %d others wait",
				maxPostprocQueue))
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

// waitForPostprocessors waits until another post-processor may run, and logs a long wait.
func (l *Logger) waitForPostprocessors() {
	const long = time.Minute
	news := time.AfterFunc(long, func() {
		if l.postprocBehind.CompareAndSwap(false, true) {
			l.log.Warn("post-processors take long, and others wait for them",
				"running", maxPostprocessors,
				"waiting", l.Stats().Rotation.PostprocessRunning-maxPostprocessors,
				"cmd", l.options.PostprocessorCmd)
		}
	})
	defer news.Stop()
	l.postprocSlots.acquire()
}

// interrupted reports whether a post-processor was killed because the logger ends: systemd sends a
// signal to all processes of a service.
func (l *Logger) interrupted(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() < 0 && l.terminating.Load()
}

func (l *Logger) postprocessFailed(file string, err error) {
	err = fmt.Errorf("post-processor: %w", err)
	l.state.failed(err)
	l.log.Error("a post-processor failed, its log stays where it is", "file", file,
		"cmd", l.options.PostprocessorCmd, "err", err)
}

// runPostprocessor runs a command line. When its time is up, it kills the command and its children.
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
	cmd.WaitDelay = time.Second // a child may keep its output open
	ended := make(chan error, 1)
	go func() { ended <- cmd.Run() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		select {
		case err = <-ended:
		case <-time.After(unkillable):
			return fmt.Errorf("it has run for %v and cannot be killed", l.postprocTimeout)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("it was killed after %v: make it faster, or raise --postprocessor-timeout",
			l.postprocTimeout)
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

// unkillable is how long to wait for the end of a process that was killed. One that takes longer
// hangs in a call of the file system and is left alone.
const unkillable = 10 * time.Second

// absoluteTarget reports whether the operator gave the folder of rotated logs as an absolute path:
// then the post-processor gets absolute paths, too.
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

// firstBytes keeps the beginning of a post-processor's output.
type firstBytes struct{ b []byte }

func (f *firstBytes) Write(b []byte) (int, error) {
	const most = 1000
	f.b = append(f.b, b[:min(len(b), most-len(f.b))]...)
	return len(b), nil
}

func (f *firstBytes) String() string { return strings.TrimSpace(string(f.b)) }
