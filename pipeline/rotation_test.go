package pipeline

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/pipeline/recording"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The names, times and records that Zeek's logger left behind.
func TestGoldenRotation(t *testing.T) {
	for _, config := range []string{"tsv", "json", "directories", "local-time-suffix", "none"} {
		t.Run(config, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { replayTimeline(t, config) })
		})
	}
}

const crashDirEnv = "PIPELINE_TEST_CRASH_DIR"

// crashChild is a logger that will be killed: it writes the messages on its
// standard input to dir, says so, and waits.
func crashChild(dir string) {
	options := DefaultOptions()
	_, err := options.Redefs([]byte(os.Getenv("PIPELINE_TEST_REDEFS")))
	var l *Logger
	if err == nil {
		l, err = New(Config{Dir: dir, Options: options, Location: time.UTC, FlushInterval: 10 * time.Millisecond})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for m, err := range recording.NewReader(os.Stdin).All() {
		if err == nil {
			err = l.Write(context.Background(), m)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	for l.Stats().Queued != (Counts{}) {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("written")
	select {}
}

// crash lets a logger write messages to dir and kills it.
func crash(t *testing.T, dir, redefs string, messages [][][]byte) {
	t.Helper()
	var input []byte
	for _, m := range messages {
		var err error
		if input, err = recording.AppendMessage(input, m...); err != nil {
			t.Fatal(err)
		}
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDirEnv+"="+dir, "PIPELINE_TEST_REDEFS="+redefs)
	child.Stdin, child.Stderr = bytes.NewReader(input), t.Output()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err := child.Process.Kill(); err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = child.Wait()
	if line != "written\n" {
		t.Fatalf("the logger said %q, %v", line, err)
	}
}

// What Zeek's logger does with the logs of one that was killed.
func TestGoldenLeftover(t *testing.T) {
	dir := t.TempDir()
	messages := goldenMessages(t, "rotation")
	script := strings.Replace(string(golden(t, "rotation")["leftover/CONFIG"]), `"./pp"`, `""`, 1)
	crash(t, dir, script, messages[:11])

	moments := map[string]moment{}
	for _, m := range timeline(t, "leftover") {
		for _, other := range []string{"pp", "calls.txt"} {
			delete(m.files, other)
		}
		moments[m.what] = m
	}
	sameListing(t, dir, moments["SIGKILL"])
	opened := map[string]string{}
	for name, content := range tree(t, dir) {
		if log, ok := strings.CutPrefix(name, ".shadow."); ok {
			if content != ".log\n\n" {
				t.Errorf("%s holds %q", name, content)
			}
			fi, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			path := strings.TrimSuffix(log, ".log")
			opened[path] = path + changeTime(fi).UTC().Format(".2006-01-02-15-04-05.log")
		}
	}
	// The opening time is that of the shadow, whatever the log's own.
	for path := range opened {
		at := time.Now().Add(time.Hour)
		if err := os.Chtimes(filepath.Join(dir, path+".log"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, dir)
	for name, content := range map[string]string{".shadow.gone.log": ".log\n\n", "alone.log": "alone\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}

	l := start(t, rotationConfig(t, "leftover", dir))
	after := tree(t, dir)
	if after["alone.log"] != "alone\n" || len(after) != len(opened)+1 {
		t.Errorf("after the start there are %v, want the rotated logs and alone.log", sizes(t, dir))
	}
	for path, name := range opened {
		if after[name] != before[path+".log"] {
			t.Errorf("%s is not %s.log as it was", name, path)
		}
	}
	write(t, l, messages[11:16]...)
	shut(t, l)
	// All records are there, in order and once, as in the recording.
	got := map[string][]string{}
	files := tree(t, dir)
	for _, name := range sortedKeys(files) {
		path, _, _ := strings.Cut(name, ".")
		got[path] = append(got[path], records(files[name])...)
	}
	want := map[string][]string{}
	recorded := golden(t, "rotation")
	for _, name := range sortedKeys(recorded) {
		if name, ok := strings.CutPrefix(name, "leftover/files/logger/"); ok && strings.HasSuffix(name, ".log") {
			path, _, _ := strings.Cut(name, ".")
			want[path] = append(want[path], records(string(recorded["leftover/files/logger/"+name]))...)
		}
	}
	if len(want) != 5 {
		t.Fatalf("the recording has the logs %q", sortedKeys(want))
	}
	for path := range want {
		if !slices.Equal(got[path], want[path]) {
			t.Errorf("%s has the records\n%q\nwant\n%q", path, got[path], want[path])
		}
	}
	if len(got) != len(want) {
		t.Errorf("logs %q, want %q", sortedKeys(got), sortedKeys(want))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// nextRotationSlow walks from tick to tick.
func nextRotationSlow(now, start time.Time, interval time.Duration) time.Time {
	tick := start
	for tick.After(now) {
		tick = tick.Add(-interval)
	}
	for !tick.After(now) {
		tick = tick.Add(interval)
	}
	return tick
}

func TestNextRotation(t *testing.T) {
	zone, err := time.LoadLocation("America/St_Johns")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		l := &Logger{location: zone}
		l.options.RotationInterval = time.Duration(rapid.Int64Range(60, 100_000).Draw(t, "interval")) * time.Second
		l.options.RotationBase = time.Duration(rapid.Int64Range(0, 24*60-1).Draw(t, "base")) * time.Minute
		// A year with its changes of summer time.
		now := time.Unix(1_790_000_000+rapid.Int64Range(0, 366*86400).Draw(t, "seconds"), rapid.Int64Range(0, 1).Draw(t, "nanoseconds")).In(zone)
		start := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, zone).Add(l.options.RotationBase)
		if got, want := l.nextRotation(now), nextRotationSlow(now, start, l.options.RotationInterval); !got.Equal(want) {
			t.Fatalf("at %v the next tick is %v, want %v", now, got, want)
		}
	})
	// Seen in Zeek: 7 s; bases 0:00, 12:34 and empty.
	now := time.Date(2026, 11, 22, 16, 15, 26, 0, time.UTC)
	for base, want := range map[time.Duration]time.Time{
		0:                             nextRotationSlow(now, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), 7*time.Second),
		12*time.Hour + 34*time.Minute: nextRotationSlow(now, time.Date(2026, 11, 22, 12, 34, 0, 0, time.UTC), 7*time.Second),
		-1:                            time.Unix(now.Unix()/7*7+7, 0),
	} {
		l := &Logger{location: time.UTC, options: Options{RotationInterval: 7 * time.Second, RotationBase: base}}
		if got := l.nextRotation(now); !got.Equal(want) {
			t.Errorf("base %v: next tick %v, want %v", base, got, want)
		}
	}
}
