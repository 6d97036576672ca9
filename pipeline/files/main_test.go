package files

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"zmtpd/pipeline"
	"zmtpd/pipeline/pipelinetest"
	"zmtpd/pipeline/redef"
)

// message returns the parts of a log message.
var message = pipelinetest.Message

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		crashChild(dir)
		return
	}
	if dir := os.Getenv(killDirEnv); dir != "" {
		killChild(dir)
		return
	}
	if dir := os.Getenv(killCallsEnv); dir != "" {
		killCallsChild(dir)
		return
	}
	if endpoint := os.Getenv(benchEnv); endpoint != "" {
		if err := benchChild(endpoint); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// redefs returns the options that a script sets.
func redefs(t testing.TB, script []byte) *redef.Options {
	t.Helper()
	o := redef.DefaultOptions()
	if _, err := o.Redefs(script); err != nil {
		t.Fatal(err)
	}
	return o
}

// optionsWith returns the defaults with a change.
func optionsWith(change func(*redef.Options)) redef.Options {
	o := redef.DefaultOptions()
	change(o)
	return *o
}

// start returns a logger that is closed at the end of the test unless the test closes it. Its log
// is part of the test's output.
func start(t testing.TB, cfg Config) *Logger {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, l) })
	return l
}

// shut closes a logger and checks its accounts.
func shut(t testing.TB, l *Logger) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil && t.Context().Err() == nil {
		t.Errorf("Close: %v", err)
	}
	st := l.Stats()
	checkBalance(t, st)
	if st.Queued != (pipeline.Counts{}) || st.OpenFiles != 0 {
		t.Errorf("after Close %+v are queued and %d files open", st.Queued, st.OpenFiles)
	}
}

func checkBalance(t testing.TB, st Stats) {
	t.Helper()
	checkAccounts(t, st.Accounts)
}

func checkAccounts(t testing.TB, st pipeline.Accounts) {
	t.Helper()
	if err := st.Check(); err != nil {
		t.Error(err)
	}
}

// write sends messages to a logger, all of which it must take.
func write(t testing.TB, l *Logger, messages ...[][]byte) {
	t.Helper()
	for i, m := range messages {
		if err := l.Write(t.Context(), m); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// tree returns the content of all regular files below dir, by slash-separated name.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		var b []byte
		if err == nil && d.Type().IsRegular() {
			b, err = os.ReadFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// records returns the lines of a log without its header.
func records(content string) []string {
	var lines []string
	for line := range strings.Lines(content) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// wantDrop checks that err says that a message was dropped for the reason.
func wantDrop(t testing.TB, err error, want pipeline.Reason) {
	t.Helper()
	e, ok := errors.AsType[*pipeline.DropError](err)
	if !ok {
		t.Errorf("got error %v, want a drop for %v", err, want)
	} else if e.Reason != want {
		t.Errorf("got drop for %v (%v), want %v", e.Reason, err, want)
	}
}
