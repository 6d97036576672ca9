package files

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/redef"
	"zmtpd/zmtp/testkit"
)

// fileFormats are the forms of a log file.
var fileFormats = map[string]func(o *redef.Options){
	"tsv":  func(*redef.Options) {},
	"json": func(o *redef.Options) { o.Format.UseJSON = true },
	"gzip": func(o *redef.Options) { o.GzipLevel = 1 },
}

// wantRecords checks that a log has these records, each of one column, once, and one header unless
// it is JSON.
func wantRecords(t *testing.T, what, content string, want ...string) {
	t.Helper()
	content = plain(t, content)
	got := records(content)
	for i, line := range got {
		if json, ok := strings.CutPrefix(line, `{"x":"`); ok {
			got[i] = strings.TrimSuffix(json, `"}`)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has the records %q, want %q", what, got, want)
	}
	if n := strings.Count(content, "#fields"); strings.Contains(content, "#") && n != 1 {
		t.Errorf("%s has %d headers:\n%s", what, n, content)
	}
}

// Whatever happens to an open log file, later records are in a file of its name, with a header, and
// the log says what has happened. A moved file is complete.
func TestFileAway(t *testing.T) {
	rename := func(t *testing.T, old, new string) {
		if err := os.Rename(old, new); err != nil {
			t.Fatal(err)
		}
	}
	actions := map[string]func(t *testing.T, dir, file string){
		"removed": func(t *testing.T, _, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		},
		"moved": func(t *testing.T, dir,
			file string) {
			rename(t, file, filepath.Join(dir, "moved"))
		},
		"replaced": func(t *testing.T, dir, file string) {
			rename(t, file, filepath.Join(dir, "moved"))
			if err := os.WriteFile(file, []byte("other\n"), 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"truncated": func(t *testing.T, _, file string) {
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		},
		"without its folder": func(t *testing.T, dir, _ string) {
			if err := os.RemoveAll(filepath.Join(dir, "sub")); err != nil {
				t.Fatal(err)
			}
		},
		"without the log folder": func(t *testing.T, dir, _ string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		},
		"moved with the log folder": func(t *testing.T, dir, _ string) {
			rename(t, dir, dir+".old")
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		},
	}
	for format, change := range fileFormats {
		for what, act := range actions {
			for _, parked := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/parked=%v", format, what, parked), func(t *testing.T) {
					dir := filepath.Join(t.TempDir(), "logs")
					if err := os.Mkdir(dir, 0o777); err != nil {
						t.Fatal(err)
					}
					var log lockedBuffer
					o := optionsWith(change)
					synctest.Test(t, func(t *testing.T) {
						l := start(t,
							Config{Dir: dir, Options: &o, Location: time.UTC, MaxFiles: 1,
								Logger: slog.New(slog.NewTextHandler(&log, nil))})
						file := filepath.Join(dir, "sub", "a"+l.ext)
						put := func(path, line string) {
							write(t, l, message(t, "n", "A::LOG", path, "x", line))
						}
						put("sub/a", "1")
						time.Sleep(2 * time.Second)
						synctest.Wait()
						if parked {
							put("b", "other")
						}
						synctest.Wait()
						act(t, dir, file)
						put("sub/a", "2")
						time.Sleep(2 * time.Second)
						put("sub/a", "3")
						shut(t, l)
						files := tree(t, dir)
						wantRecords(t, "the new file", files["sub/a"+l.ext], "2", "3")
						moved, isMoved := files["moved"]
						if old := tree(t, filepath.Dir(dir))["logs.old/sub/a"+l.ext]; old != "" {
							moved, isMoved = old, true
						}
						if isMoved && !parked { // else they may wait for it
							wantRecords(t, "the moved file", moved, "1")
							if format != "json" && !strings.Contains(plain(t, moved), "#close") {
								t.Errorf("the moved file is not complete:\n%s", plain(t, moved))
							}
						}
						if st := l.Stats(); st.Written != st.Received {
							t.Errorf("%+v", st)
						}
					})
					if !strings.Contains(log.String(), "a log file was") {
						t.Errorf("the log does not mention the file:\n%s", log.String())
					}
				})
			}
		}
	}
}

// While the log folder is away, the senders wait. When it is back, it has all records since then.
func TestFolderAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		l := start(t, Config{Dir: dir, Location: time.UTC,
			Logger: slog.New(slog.NewTextHandler(&log, nil))})
		put := func(line string) { write(t, l, message(t, "n", "A::LOG", "a", "x", line)) }
		put("1")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		put("2") // stays in the buffer
		time.Sleep(2 * time.Second)
		done := make(chan struct{})
		go func() {
			defer close(done)
			put("3")
			write(t, l, message(t, "n", "A::LOG", "b", "x", "4"))
		}()
		time.Sleep(10 * time.Second)
		if st := l.Stats(); st.Written.Records != 1 || st.LastError == nil {
			t.Errorf("written %+v, error %v", st.Written, st.LastError)
		}
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		<-done
		shut(t, l)
		files := tree(t, dir)
		wantRecords(t, "a.log", files["a.log"], "2", "3")
		wantRecords(t, "b.log", files["b.log"], "4")
		if got := strings.Count(log.String(), "make it again"); got != 1 {
			t.Errorf("the log names the folder %d times:\n%s", got, log.String())
		}
	})
}

// Only the logger that has locked the new folder writes there.
func TestFolderAwayIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	l := start(t, Config{Dir: dir})
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := l.followFolder(); err != nil {
		t.Fatal(err)
	}
	if other, err := New(Config{Dir: dir}); err == nil {
		t.Error("two loggers write to the new folder")
		other.Close(t.Context())
	}
	other, err := New(Config{Dir: dir + ".old"})
	if err != nil {
		t.Fatalf("the old folder is not free: %v", err)
	}
	shut(t, other)
}

// Reopen finds moved files at once.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, Config{Dir: dir, FlushInterval: time.Hour})
		write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
		l.Flush()
		synctest.Wait()
		if err := os.Rename(filepath.Join(dir, "a.log"),
			filepath.Join(dir, "a.log.1")); err != nil {
			t.Fatal(err)
		}
		write(t, l, message(t, "n", "A::LOG", "a", "x", "2"))
		l.Reopen()
		synctest.Wait()
		if moved := tree(t, dir)["a.log.1"]; !strings.Contains(moved, "#close") {
			t.Errorf("the moved file is not complete:\n%s", moved)
		} else {
			wantRecords(t, "the moved file", moved, "1")
		}
		write(t, l, message(t, "n", "A::LOG", "a", "x", "3"))
		shut(t, l)
		wantRecords(t, "the new file", tree(t, dir)["a.log"], "2", "3")
	})
}

// With more logs than files may be open, each log still has one file with one header and one
// #close, and all its records in order.
func TestFilesParked(t *testing.T) {
	for format, change := range fileFormats {
		for _, interval := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprintf("%s/%v", format, interval), func(t *testing.T) {
				dir := t.TempDir()
				const logs, rounds, most = 10, 20, 3
				o := optionsWith(change)
				o.RotationInterval = interval
				synctest.Test(t, func(t *testing.T) {
					l := start(t, Config{Dir: dir, Options: &o, Location: time.UTC, MaxFiles: most,
						FlushInterval: time.Hour})
					for round := range rounds {
						for i := range logs {
							write(t, l, message(t, "n", "A::LOG", fmt.Sprint("p", i),
								"x", fmt.Sprint(round)))
							if n := l.Stats().OpenFiles; n > most {
								t.Fatalf("%d files are open", n)
							}
						}
					}
					shut(t, l)
				})
				files := tree(t, dir)
				if len(files) != logs {
					t.Errorf("files %q", sortedKeys(files))
				}
				var want []string
				for round := range rounds {
					want = append(want, fmt.Sprint(round))
				}
				for name, content := range files {
					wantRecords(t, name, content, want...)
					if n := strings.Count(plain(t, content), "#close"); format != "json" && n != 1 {
						t.Errorf("%s has #close %d times", name, n)
					}
				}
			})
		}
	}
}

// A file in use is not closed. A log that needs another one waits.
func TestFilesParkedBusy(t *testing.T) {
	dir := t.TempDir()
	letGo := make(chan struct{})
	l := hanging(t, Config{Dir: dir, MaxFiles: 1, FlushInterval: time.Hour}, letGo, nil)
	write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
	l.Flush() // hangs with the lock of a
	started := make(chan error)
	go func() {
		started <- l.Write(t.Context(), message(t, "n", "A::LOG", "b", "x", "2"))
	}()
	select {
	case err := <-started:
		t.Errorf("the write of b returned %v while a hangs and no other file may be open", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(letGo)
	if err := <-started; err != nil {
		t.Error(err)
	}
	shut(t, l)
	files := tree(t, dir)
	wantRecords(t, "a", files["a.log"], "1")
	wantRecords(t, "b", files["b.log"], "2")
	if st := l.Stats(); st.Dropped[pipeline.ReasonManyFiles] != (pipeline.Counts{}) {
		t.Errorf("%+v", st.Dropped)
	}
}

// A rotated log that waits for its place in the archive is removed. The logger says so and no
// longer waits for it.
func TestRotatedLogRemoved(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "archive"), nil, 0o666); err != nil { // a file
		t.Fatal(err)
	}
	var log lockedBuffer
	cfg := archiving(dir, Compression{})
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	cfg.MaxFileSize = 1
	l := start(t, cfg)
	write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
	testkit.Eventually(t, "the archive to fail",
		func() bool { return l.Stats().Rotation.Failures > 0 })
	if err := os.RemoveAll(filepath.Join(dir, workDir)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the log to be given up",
		func() bool { return l.Stats().Rotation.Pending == 0 })
	shut(t, l)
	if !strings.Contains(log.String(), "a rotated log was removed") {
		t.Errorf("the log does not mention the removed file:\n%s", log.String())
	}
}
