package files

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"zmtpd/pipeline"
	"zmtpd/pipeline/recording"
	"zmtpd/pipeline/redef"
	"zmtpd/zmtp/testkit"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Names, times, records and calls of the post-processor are those of Zeek's logger.
func TestGoldenRotation(t *testing.T) {
	for _, config := range testkit.Configs(t, "rotation") {
		if strings.HasPrefix(config, "leftover") {
			continue // see TestGoldenLeftover
		}
		t.Run(config, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { replayTimeline(t, config) })
		})
	}
}

const crashDirEnv = "PIPELINE_TEST_CRASH_DIR"

// crashChild runs a logger that will be killed: it writes the messages from its standard input to
// dir, reports that, and waits.
func crashChild(dir string) {
	options := redef.DefaultOptions()
	_, err := options.Redefs([]byte(os.Getenv("PIPELINE_TEST_REDEFS")))
	var l *Logger
	if err == nil {
		l, err = New(Config{Dir: dir, Options: options, Location: time.UTC,
			FlushInterval: 10 * time.Millisecond})
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
	for l.Stats().Queued != (pipeline.Counts{}) {
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
		t.Fatalf("the logger printed %q, error %v", line, err)
	}
}

// The logs of a killed logger are treated as by Zeek's logger.
func TestGoldenLeftover(t *testing.T) {
	for _, config := range []string{"leftover", "leftover-gzip"} {
		t.Run(config, func(t *testing.T) { goldenLeftover(t, config) })
	}
}

func goldenLeftover(t *testing.T, config string) {
	parent := t.TempDir()
	cfg := nodeConfig(t, config, parent, "logger", false)
	dir := cfg.Dir
	messages := testkit.Messages(t, "rotation")
	script := string(testkit.Golden(t, "rotation")[config+"/CONFIG"])
	crash(t, dir, script, messages[:11])

	var killed, again moment
	for _, m := range timeline(t, config) {
		switch m.what {
		case "SIGKILL":
			killed = m
		case "logger running again, nothing sent yet":
			again = m
		}
	}
	sameListing(t, parent, killed)
	ext := ".log"
	if cfg.Options.GzipLevel > 0 {
		ext = ".log.gz"
	}
	// The opening time is that of the shadow, the closing time that of the log.
	var opened []string
	closed := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, content := range tree(t, dir) {
		if log, ok := strings.CutPrefix(name, ".shadow."); ok {
			if content != ext+"\n\n" {
				t.Errorf("%s holds %q", name, content)
			}
			fi, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(filepath.Join(dir, log), closed, closed); err != nil {
				t.Fatal(err)
			}
			opened = append(opened, changeTime(fi).UTC().Format("2006-01-02-15-04-05"))
		}
	}
	slices.Sort(opened)
	for name, content := range map[string]string{".shadow.gone.log": ext + "\n\n",
		"alone.log": "alone\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}

	// times in names, arguments and calls are those of the test's run
	times := regexp.MustCompile(`\d{4}(?:-\d\d){5}|\d\d-\d\d-\d\d_\d\d\.\d\d\.\d\d`)
	masked := func(names []string) []string {
		var all []string
		for _, name := range names {
			if !strings.Contains(name, "<reporter>") {
				all = append(all, times.ReplaceAllString(name, "TIME"))
			}
		}
		slices.Sort(all)
		return all
	}
	l := start(t, cfg)
	testkit.Eventually(t, "the calls of the post-processor",
		func() bool { return l.Stats().Rotation.Postprocessed == 4 })
	if got, want := masked(sortedKeys(tree(t, parent))),
		masked(sortedKeys(again.files)); !slices.Equal(got, want) {
		t.Errorf("after the start there are\n%q\nwant\n%q", got, want)
	}
	var gotOpened []string
	calls := tree(t, dir)["calls.txt"]
	for line := range strings.Lines(calls) {
		gotOpened = append(gotOpened, rotatedTime.FindStringSubmatch(line)[1])
		if want := "<" + closed.UTC().Format("06-01-02_15.04.05") + "> <0>"; !strings.Contains(line,
			want) {
			t.Errorf("call %q, want %s", line, want)
		}
	}
	if slices.Sort(gotOpened); !slices.Equal(gotOpened, opened) {
		t.Errorf("opened at %q, want %q", gotOpened, opened)
	}
	testkit.Eventually(t, "another second",
		func() bool { return time.Now().UTC().Format("2006-01-02-15-04-05") > opened[len(opened)-1] })
	write(t, l, messages[11:16]...)
	shut(t, l)
	want := rotatedFiles(t, config)
	calls = tree(t, dir)["calls.txt"]
	if got, want := masked(strings.SplitAfter(calls, "\n")),
		masked(strings.SplitAfter(want["logger/calls.txt"], "\n")); !slices.Equal(got, want) {
		t.Errorf("calls\n%q\nwant\n%q", got, want)
	}
	// All records are there once and in order, as in the recording without compression. With
	// compression Zeek loses the content of its buffer.
	all := func(files map[string]string) map[string][]string {
		logs := map[string][]string{}
		names := sortedKeys(files)
		slices.SortStableFunc(names,
			func(a, b string) int {
				return strings.Compare(times.FindString(a),
					times.FindString(b))
			})
		for _, name := range names {
			if log, _, _ := strings.Cut(path.Base(name), "."); times.MatchString(name) {
				logs[log] = append(logs[log], records(plain(t, files[name]))...)
			}
		}
		return logs
	}
	if got, want := all(tree(t, dir)),
		all(rotatedFiles(t, "leftover")); !reflect.DeepEqual(got, want) || len(want) != 4 {
		t.Errorf("records\n%q\nwant\n%q", got, want)
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

// midnightAtOffsetOf returns the beginning of now's day in a zone that always has the current
// offset.
func midnightAtOffsetOf(now time.Time) time.Time {
	name, offset := now.Zone()
	y, m, d := now.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.FixedZone(name, offset))
}

func TestNextRotation(t *testing.T) {
	zone, err := time.LoadLocation("America/St_Johns")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		l := &Logger{location: zone}
		l.options.RotationInterval = time.Duration(rapid.Int64Range(60, 100_000).
			Draw(t, "interval")) * time.Second
		l.options.RotationBase = time.Duration(rapid.Int64Range(0, 24*60-1).
			Draw(t, "base")) * time.Minute
		// a year with its changes to and from summer time
		now := time.Unix(1_790_000_000+rapid.Int64Range(0, 366*86400).Draw(t, "seconds"),
			rapid.Int64Range(0, 1).Draw(t, "nanoseconds")).In(zone)
		start := midnightAtOffsetOf(now).Add(l.options.RotationBase)
		if got, want := l.nextRotation(now),
			nextRotationSlow(now, start, l.options.RotationInterval); !got.Equal(want) {
			t.Fatalf("at %v the next tick is %v, want %v", now, got, want)
		}
	})
	// observed with Zeek: 7 s; bases 0:00, 12:34 and empty
	now := time.Date(2026, 11, 22, 16, 15, 26, 0, time.UTC)
	for base, want := range map[time.Duration]time.Time{
		0: nextRotationSlow(now,
			time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), 7*time.Second),
		12*time.Hour + 34*time.Minute: nextRotationSlow(now,
			time.Date(2026, 11, 22, 12, 34, 0, 0, time.UTC), 7*time.Second),
		-1: time.Unix(now.Unix()/7*7+7, 0),
	} {
		l := &Logger{location: time.UTC,
			options: redef.Options{RotationInterval: 7 * time.Second, RotationBase: base}}
		if got := l.nextRotation(now); !got.Equal(want) {
			t.Errorf("base %v: next tick %v, want %v", base, got, want)
		}
	}
}

// clockChanges returns the hours of 2026 in which the clocks of a zone change.
func clockChanges(zone *time.Location) (changes []time.Time) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	_, before := at.In(zone).Zone()
	for ; at.Year() == 2026; at = at.Add(time.Hour) {
		if _, offset := at.In(zone).Zone(); offset != before {
			changes = append(changes, at)
			before = offset
		}
	}
	return changes
}

// Around the days of clock changes the ticks are those of Zeek, no file is longer than the
// interval, and from the second midnight on all files begin at whole intervals of the day. In Lord
// Howe the clocks change by half an hour, in Havana at midnight.
func TestRotationWhenClocksChange(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
		"America/Havana"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		changes := clockChanges(zone)
		if len(changes) != 2 {
			t.Fatalf("%s: the clocks change %d times", name, len(changes))
		}
		for _, change := range changes {
			for _, hours := range []int{1, 6, 12, 24} {
				interval := time.Duration(hours) * time.Hour
				l := &Logger{location: zone}
				l.options.RotationInterval = interval
				now := change.Add(-30 * time.Hour)
				for now.Before(change.Add(80 * time.Hour)) {
					tick := l.nextRotation(now)
					if want := nextRotationSlow(now, midnightAtOffsetOf(now.In(zone)),
						interval); !tick.Equal(want) {
						t.Fatalf("%s, every %v: after %v comes %v, want %v", name, interval,
							now.In(zone), tick.In(zone), want.In(zone))
					}
					if tick.Sub(now) > interval || !tick.After(now) {
						t.Fatalf("%s, every %v: a file from %v to %v", name, interval, now.In(zone),
							tick.In(zone))
					}
					if h, m, s := tick.In(zone).Clock(); tick.After(change.Add(49*time.Hour)) &&
						(h%hours != 0 || m != 0 || s != 0) {
						t.Errorf("%s, every %v: long after the change a file begins at %v", name,
							interval, tick.In(zone))
					}
					now = tick
				}
			}
		}
	}
}

// The clocks of Berlin go back on Sunday, 25 October 2026. With daily files, Monday's records are
// in Monday's archive.
func TestArchiveWhenClocksChange(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Date(2026, 10, 24, 0, 30, 0, 0, zone)
		time.Sleep(time.Until(begin))
		o := redef.DefaultOptions()
		o.RotationInterval = 24 * time.Hour
		l := start(t, Config{Dir: dir, Options: o, Location: zone, Archive: "archive",
			FlushInterval: time.Hour})
		for range 5 * 24 {
			write(t, l, message(t, "n", "A::LOG", "a", "x", time.Now().In(zone).Format(dayLayout)))
			time.Sleep(time.Hour)
		}
		shut(t, l)
	})
	logged := map[string]int{}
	for name, content := range tree(t, filepath.Join(dir, "archive")) {
		for _, day := range records(content) {
			logged[day]++
			if !strings.HasPrefix(name, day+"/") {
				t.Errorf("%s has a record of %s", name, day)
			}
		}
	}
	if logged["2026-10-25"] != 25 || logged["2026-10-26"] != 24 {
		t.Errorf("records by day: %v", logged)
	}
}
