package files

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// recordCalls is a post-processor that records the files for which it is called, and the arguments
// behind the name.
const recordCalls = `f() { echo "$@" >> calls; }; f`

// calls returns the records of recordCalls in dir, sorted.
func calls(t testing.TB, dir string) []string {
	t.Helper()
	lines := records(tree(t, dir)["calls"])
	slices.Sort(lines)
	return lines
}

// Whatever a crash left of a rotation, the next start calls the post-processor once for the log,
// unless the log no longer exists.
func TestPostprocessorResumed(t *testing.T) {
	const (
		work   = workDir + "/1700000000-1700003600/"
		note   = work + callNote
		waits  = work + "sub/a.log"
		placed = "sub/a.2023-11-14-22-13-20.log"
		text   = "#close\n"
		call   = placed + " sub/a 23-11-14_22.13.20 23-11-14_23.13.20 0 ascii"
	)
	noted := fmt.Sprintf(noteFormat, "sub/a", filepath.FromSlash(placed), 0)
	for name, c := range map[string]struct {
		files map[string]string
		want  []string // calls
	}{
		"before the note":      {map[string]string{waits: text}, []string{call}},
		"while it was written": {map[string]string{waits: text, note: noted[:10]}, []string{call}},
		"before the move":      {map[string]string{waits: text, note: noted}, []string{call}},
		"before another move": {map[string]string{waits: text,
			note: fmt.Sprintf(noteFormat, "sub/a", "elsewhere/a", 0)}, []string{call}},
		"in the end": {map[string]string{placed: text,
			note: fmt.Sprintf(noteFormat, "sub/a", filepath.FromSlash(placed), 1)},
			[]string{strings.Replace(call, " 0 ", " 1 ", 1)}},
		"after the move": {map[string]string{placed: text, note: noted}, []string{call}},
		"after the copy": {map[string]string{placed: text, waits: text, note: noted},
			[]string{call}},
		"after the post-processor": {map[string]string{placed: text}, nil},
		"which took the log away":  {map[string]string{note: noted}, nil},
		"damaged":                  {map[string]string{placed: text, note: "what"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				name = filepath.Join(dir, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			l := start(t, postprocessing(dir, recordCalls))
			shut(t, l)
			if err := l.Stats().LastError; (err != nil) != (name == "damaged") {
				t.Errorf("error %v", err)
			}
			want := map[string]string{}
			if c.files[placed] != "" || c.files[waits] != "" {
				want[placed] = text
			}
			files := tree(t, dir)
			if got := calls(t, dir); !slices.Equal(got, c.want) {
				t.Errorf("calls %q, want %q", got, c.want)
			}
			delete(files, "calls")
			if !slices.Equal(sortedKeys(files), sortedKeys(want)) {
				t.Errorf("files %q, want %q", sortedKeys(files), sortedKeys(want))
			}
			if _, err := os.Stat(filepath.Join(dir, workDir)); err == nil {
				t.Error("the folder of rotated logs is still there")
			}
		})
	}
}

// A note that needs no further work is removed.
func TestNoteWithoutPostprocessorIsRemoved(t *testing.T) {
	dir := t.TempDir()
	work := filepath.Join(dir, workDir, "1700000000-1700003600")
	if err := os.MkdirAll(work, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		filepath.Join(dir, "a.old.log"): "x\n",
		filepath.Join(work, callNote):   fmt.Sprintf(noteFormat, "a", "a.old.log", 0),
	} {
		if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, start(t, postprocessing(dir, "")))
	if files := sortedKeys(tree(t, dir)); !slices.Equal(files, []string{"a.old.log"}) {
		t.Errorf("files %q", files)
	}
}

// A post-processor that is killed at the end of the logger is called again by the next start. One
// that fails, or is killed at another time, is not.
func TestPostprocessorInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		cmd     string
		atClose bool
		again   bool
	}{
		"fails":            {`false`, true, false},
		"killed":           {`kill -9 $$`, false, false},
		"killed at Close":  {`kill -9 $$`, true, true},
		"hangs, is killed": {`test -e again || { echo $$ > pid; read x < fifo; }`, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if name == "hangs, is killed" {
				if out, err := exec.Command("mkfifo",
					filepath.Join(dir, "fifo")).CombinedOutput(); err != nil {
					t.Skipf("mkfifo: %s", out)
				}
			}
			cfg := postprocessing(dir, recordCalls+" first; test -e again || "+c.cmd+"; true")
			cfg.MaxFileSize = 1000
			l := start(t, cfg)
			if c.atClose {
				write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
			} else {
				write(t, l, message(t, "n", "A::LOG", "a", "x", strings.Repeat("x", 1000)))
				testkit.Eventually(t, "the post-processor",
					func() bool { return l.Stats().Rotation.Postprocessed == 1 })
			}
			ended := make(chan error, 1)
			go func() { ended <- l.Close(t.Context()) }()
			if name == "hangs, is killed" {
				testkit.Eventually(t, "the post-processor",
					func() bool { return strings.HasSuffix(tree(t, dir)["pid"], "\n") })
				if out, err := exec.Command("kill",
					strings.TrimSpace(tree(t, dir)["pid"])).CombinedOutput(); err != nil {
					t.Fatalf("kill: %s", out)
				}
			}
			if err := <-ended; (err != nil) != c.again || c.again &&
				!strings.Contains(err.Error(), "1 post-processors") {
				t.Errorf("Close: %v", err)
			}
			if err := os.WriteFile(filepath.Join(dir, "again"), nil, 0o666); err != nil {
				t.Fatal(err)
			}
			shut(t, start(t, cfg))
			if n, want := len(calls(t, dir)), 1+btoi(c.again); n != want {
				t.Errorf("%d calls, want %d", n, want)
			}
			if _, err := os.Stat(filepath.Join(dir, workDir)); err == nil {
				t.Error("files are left over")
			}
		})
	}
}

const killCallsEnv = "PIPELINE_TEST_KILL_CALLS_DIR"

// killCallsChild runs a logger with a post-processor that rotates all the time until it is killed.
func killCallsChild(dir string) {
	l, err := New(killCallsConfig(dir))
	for i := 0; err == nil; i++ {
		err = l.Write(context.Background(), killMessage("a", i))
		for l.Stats().Rotation.Pending >= 8 { // the disk is slower than the loop
			time.Sleep(time.Millisecond)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// killCallsConfig has a post-processor that waits while there is a file "hold", and then does
// nothing if there is a file "killed".
func killCallsConfig(dir string) Config {
	cfg := postprocessing(dir, `f() {
		echo >> begun
		while test -e hold && test $((i=i+1)) -lt 12000; do sleep 0.01; done # it ends even if the test is killed
		test -e killed || echo "$@" >> calls
		echo >> ended
	}; f`)
	cfg.FlushInterval, cfg.MaxFileSize = time.Millisecond, 2000
	return cfg
}

// However often the logger is killed, the post-processor is called in the end for every log.
func TestKilledBeforePostprocessor(t *testing.T) {
	dir := t.TempDir()
	set := func(name string, there bool) {
		t.Helper()
		err := os.Remove(filepath.Join(dir, name))
		if there {
			err = os.WriteFile(filepath.Join(dir, name), nil, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	logs := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "a.2") {
				names = append(names, e.Name())
			}
		}
		return names
	}
	allEnded := func() bool { files := tree(t, dir); return files["begun"] == files["ended"] }
	for range 4 {
		set("hold", true)
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), killCallsEnv+"="+dir)
		child.Stdout, child.Stderr = t.Output(), t.Output()
		enough := len(logs()) + maxPostprocessors + 1 + rand.IntN(20) // more than can run at a time
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "rotated logs", func() bool { return len(logs()) >= enough })
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
		set("killed", true)
		set("hold", false)
		testkit.Eventually(t, "the end of what the logger had started", allEnded)
		set("killed", false)
	}
	if n := len(calls(t, dir)); n > len(logs())/2 {
		t.Fatalf("%d logs of %d have been processed: this tests nothing", n, len(logs()))
	}
	shut(t, start(t, killCallsConfig(dir)))
	// once each, except for one that was about to begin when the logger was killed
	called := map[string]bool{}
	for _, line := range calls(t, dir) {
		name, _, _ := strings.Cut(line, " ")
		called[name] = true
	}
	for _, name := range logs() {
		if !called[name] {
			t.Errorf("the post-processor was not called for %s", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, workDir)); err == nil {
		t.Error("the folder of rotated logs is still there")
	}
}
