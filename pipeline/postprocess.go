package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

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
	l.acct.rotating(func(st *RotationStats) {
		if full = st.PostprocessRunning >= maxPostprocQueue; full {
			st.PostprocessFailed++
		} else {
			st.PostprocessRunning++
		}
	})
	if full {
		l.postprocessFailed(to, fmt.Errorf("it is not called: %d others wait or hang", maxPostprocQueue))
		return
	}
	l.postprocessors.Go(func() {
		l.postprocSlots.acquire()
		defer l.postprocSlots.release()
		err := l.runPostprocessor(line)
		l.acct.rotating(func(st *RotationStats) {
			st.PostprocessRunning--
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

func (l *Logger) postprocessFailed(file string, err error) {
	err = fmt.Errorf("post-processor: %w", err)
	l.acct.failed(err)
	l.log.Error("post-processor failed, the log stays where it is", "file", file, "cmd", l.options.PostprocessorCmd, "err", err)
}

func (l *Logger) runPostprocessor(line string) error {
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = l.dir
	cmd.Env = os.Environ()
	for _, key := range slices.Sorted(maps.Keys(l.options.PostprocessorEnv)) {
		cmd.Env = append(cmd.Env, "ZEEK_ARG_"+key+"="+l.options.PostprocessorEnv[key])
	}
	said := &firstBytes{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = time.Second // it may have started something that keeps its output
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if err != nil && len(said.b) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(said.b)))
	}
	return err
}

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
