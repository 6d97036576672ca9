package files

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/pipeline/redef"
	"zmtpd/zmtp/testkit"
)

// archiving is the configuration of a logger that archives every hour.
func archiving(dir string, how Compression) Config {
	o := optionsWith(func(o *redef.Options) { o.RotationInterval = time.Hour })
	return Config{Dir: dir, Options: &o, Location: time.UTC, Archive: "archive", Compress: how,
		FlushInterval: time.Minute}
}

// withCompression runs a test for each way to archive a log. ext is the extension of archived logs.
func withCompression(t *testing.T, test func(t *testing.T, how Compression, ext string)) {
	for how, ext := range map[Compression]string{{}: ".log", {"gzip", 6}: ".log.gz",
		{"zstd", 3}: ".log.zst"} {
		t.Run(how.String(), func(t *testing.T) { test(t, how, ext) })
	}
}

// archivedRecords returns the records of a log in an archive, in the order of the file names.
func archivedRecords(t *testing.T, dir, log string) (all []string) {
	t.Helper()
	files := tree(t, dir)
	for _, name := range sortedKeys(files) {
		if strings.HasPrefix(path.Base(name), log+".") {
			all = append(all, records(plain(t, files[name]))...)
		}
	}
	return all
}

func TestArchive(t *testing.T) {
	withCompression(t, func(t *testing.T, how Compression, suffix string) {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			cfg := archiving(dir, how)
			if how.Name != "" {
				cfg.Name = "logger-1"
				suffix = "-logger-1" + suffix
			}
			l := start(t, cfg)
			time.Sleep(23*time.Hour + 10*time.Minute + 5*time.Second)
			write(t, l, message(t, "n", "A::LOG", "a", "x", "1"),
				message(t, "n", "A::LOG", "sub/a'b", "x", "s"))
			time.Sleep(2 * time.Hour)
			write(t, l, message(t, "n", "A::LOG", "a", "x", "2"))
			shut(t, l)
			want := []string{
				"archive/2000-01-01/a.23:10:05-00:00:00" + suffix,
				"archive/2000-01-01/sub/a'b.23:10:05-00:00:00" + suffix,
				"archive/2000-01-02/a.01:00:00-01:10:05" + suffix,
			}
			got := tree(t, dir)
			if !slices.Equal(sortedKeys(got), want) {
				t.Fatalf("files %q, want %q", sortedKeys(got), want)
			}
			for i, record := range []string{"1", "s", "2"} {
				content := plain(t, got[want[i]])
				if !slices.Equal(records(content), []string{record}) ||
					!strings.Contains(content, "#close\t") ||
					(how.Name != "") != (content != got[want[i]]) {
					t.Errorf("%s holds %q", want[i], content)
				}
			}
			if st := l.Stats().Rotation; st.Rotated != 3 || st.Pending != 0 || st.Failures != 0 {
				t.Errorf("%+v", st)
			}
		})
	})
}

// An archive takes a log that was compressed while it was written unchanged.
func TestArchiveOfGzip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := archiving(dir, Compression{"zstd", 1})
		cfg.Options.GzipLevel = 1
		l := start(t, cfg)
		write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
		shut(t, l)
		files := tree(t, dir)
		if name := "archive/2000-01-01/a.00:00:00-00:00:00.log.gz"; len(files) != 1 ||
			!slices.Equal(records(plain(t, files[name])), []string{"1"}) {
			t.Errorf("files %q", sortedKeys(files))
		}
	})
}

// On another file system the archive gets a copy. The original is removed when the copy is
// complete.
func TestArchiveOnOtherFileSystem(t *testing.T) {
	archive := testkit.Tmpfs(t, 1<<20)
	withCompression(t, func(t *testing.T, how Compression, ext string) {
		dir := t.TempDir()
		cfg := archiving(dir, how)
		// no archive may be the parent of another
		cfg.Archive = filepath.Join(archive, "of-"+how.Name)
		l := start(t, cfg)
		write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
		shut(t, l)
		if got := archivedRecords(t, cfg.Archive, "a"); !slices.Equal(got, []string{"1"}) {
			t.Errorf("the archive has %q", got)
		}
		if files := tree(t, dir); len(files) != 0 {
			t.Errorf("files are left behind: %q", sortedKeys(files))
		}
	})
}

// A log is rotated when it is large, at any time. The order of its files' names is that of the
// records.
func TestMaxFileSize(t *testing.T) {
	for _, archive := range []string{"", "archive"} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			const limit = 2000
			l := start(t, Config{Dir: dir, Location: time.UTC, MaxFileSize: limit,
				Archive: archive})
			var want []string
			for i := range 300 {
				line := fmt.Sprintf("%03d %s", i, strings.Repeat("x", i))
				want = append(want, line)
				write(t, l, message(t, "n", "A::LOG", "a", "x", line))
				if i%3 == 0 {
					time.Sleep(time.Second)
				}
			}
			shut(t, l)
			if got := archivedRecords(t, dir, "a"); !slices.Equal(got, want) {
				t.Errorf("records %.200q", got)
			}
			files := tree(t, dir)
			for name, content := range files {
				if len(content) > limit+500 || strings.Count(content, "#close") != 1 ||
					name == "a.log" {
					t.Errorf("%s has %d bytes", name, len(content))
				}
			}
			if len(files) < 20 {
				t.Errorf("files %q", sortedKeys(files))
			}
		})
	}
}

// fullWriter has no room until it is told.
type fullWriter struct {
	w    io.Writer
	full *atomic.Bool
}

func (f fullWriter) Write(b []byte) (int, error) {
	if f.full.Load() {
		n, _ := f.w.Write(b[:len(b)/2])
		return n, syscall.ENOSPC
	}
	return f.w.Write(b)
}

// While there is no room for a compressed log, its original stays, and other logs go on.
func TestArchiveFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, err := newLogger(archiving(dir, Compression{"zstd", 3}))
		if err != nil {
			t.Fatal(err)
		}
		var full atomic.Bool
		full.Store(true)
		l.copyTo = func(w io.Writer) io.Writer { return fullWriter{w, &full} }
		go l.runTimer()
		var want []string
		for i := range 5 {
			want = append(want, fmt.Sprint(i))
			write(t, l, message(t, "n", "A::LOG", "a", "x", want[i]))
			time.Sleep(time.Hour)
			synctest.Wait()
			if got := archivedRecords(t, filepath.Join(dir, ".rotating"), "a"); !slices.Equal(got,
				want) {
				t.Errorf("%q wait, want %q", got, want)
			}
			if files := tree(t, filepath.Join(dir, "archive")); len(files) != 0 {
				t.Errorf("the archive has %q", sortedKeys(files))
			}
		}
		if st := l.Stats(); !errors.Is(st.LastError, syscall.ENOSPC) || st.Rotation.Pending != 5 ||
			st.Rotation.Failures < 5 {
			t.Errorf("last error %v, %+v", st.LastError, st.Rotation)
		}
		full.Store(false)
		time.Sleep(2 * maxRotationBackoff)
		synctest.Wait()
		if got := archivedRecords(t, filepath.Join(dir, "archive"), "a"); !slices.Equal(got, want) {
			t.Errorf("the archive has %q, want %q", got, want)
		}
		shut(t, l)
		if files := tree(t, dir); len(files) != 5 {
			t.Errorf("files %q", sortedKeys(files))
		}
	})
}

// A log that cannot be archived by the end is archived at the next start. So is what a crash left
// at any moment: before or after the log was archived, with half a line at its end, with the
// current compression or another one.
func TestArchiveResumed(t *testing.T) {
	withCompression(t, func(t *testing.T, how Compression, ext string) {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			l, err := newLogger(archiving(dir, how))
			if err != nil {
				t.Fatal(err)
			}
			write(t, l, message(t, "n", "A::LOG", "sub/a", "x", "1"))
			if err := os.WriteFile(filepath.Join(dir, "archive"), nil,
				0o666); err != nil { // a file where the archive should be
				t.Fatal(err)
			}
			go l.runTimer()
			time.Sleep(time.Hour)
			write(t, l, message(t, "n", "A::LOG", "b", "x", "2"))
			if err := l.Close(expired(t)); err == nil ||
				!strings.Contains(err.Error(), "2 rotated logs") {
				t.Errorf("Close: %v", err)
			}
			if err := os.Remove(filepath.Join(dir, "archive")); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			if len(before) != 2 {
				t.Fatalf("files %q", sortedKeys(before))
			}
			leave := func() { // as a logger that was killed while it wrote
				t.Helper()
				for name, content := range before {
					name = filepath.Join(dir, filepath.FromSlash(name))
					if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(name, []byte(content+"half a"), 0o666); err != nil {
						t.Fatal(err)
					}
				}
			}
			check := func(now Compression) {
				t.Helper()
				shut(t, start(t, archiving(dir, now)))
				got, want := tree(t, dir),
					[]string{"archive/2000-01-01/b.01:00:00-01:00:00" + ext,
						"archive/2000-01-01/sub/a.00:00:00-01:00:00" + ext}
				if !slices.Equal(sortedKeys(got), want) {
					t.Fatalf("files %q, want %q", sortedKeys(got), want)
				}
				for i, record := range []string{"2", "1"} {
					if content := plain(t, got[want[i]]); !slices.Equal(records(content),
						[]string{record}) || !strings.HasSuffix(content, "\n") {
						t.Errorf("%s holds %q", want[i], content)
					}
				}
			}
			leave()
			check(how)
			for _, now := range []Compression{how, {}, {Name: "gzip"}, {Name: "zstd"}} {
				leave() // as a logger that was killed before it removed the originals
				check(now)
			}
		})
	})
}

// A file with the name of an archived log and another content is not a copy of the log, and stays.
func TestArchiveKeepsOthers(t *testing.T) {
	withCompression(t, func(t *testing.T, how Compression, ext string) {
		dir := t.TempDir()
		others := map[string]string{".log": "#other\n1\n", ".log.gz": "no gzip",
			".log.zst": "\x28\xb5\x2f\xfdno zstd"}
		name := filepath.Join(dir, "archive", "2023-11-14",
			"a.22"+clockLayout[2:3]+"13"+clockLayout[2:3]+"20-23"+clockLayout[2:3]+"13"+clockLayout[2:3]+"20")
		work := filepath.Join(dir, workDir, "1700000000-1700003600")
		for _, d := range []string{filepath.Dir(name), work} {
			if err := os.MkdirAll(d, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		files := map[string]string{filepath.Join(work, "a.log"): "#mine\n1\n"}
		for ext, content := range others {
			files[name+ext] = content
		}
		for name, content := range files {
			if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		shut(t, start(t, archiving(dir, how)))
		got := tree(t, filepath.Dir(name))
		for ext, content := range others {
			if got[filepath.Base(name)+ext] != content {
				t.Errorf("%s holds %q", ext, got[filepath.Base(name)+ext])
			}
		}
		if mine := got[filepath.Base(name)+"_1"+ext]; len(got) != 4 ||
			plain(t, mine) != "#mine\n1\n" {
			t.Errorf("files %q", got)
		}
	})
}

// The logs of a killed logger are archived, and no record twice.
func TestArchiveLeftover(t *testing.T) {
	dir := t.TempDir()
	messages := [][][]byte{message(t, "n", "A::LOG", "a", "x", "1", "2"),
		message(t, "n", "B::LOG", "b", "x", "3")}
	crash(t, dir,
		"redef Log::default_rotation_interval = 1 hr; redef "+
			"LogAscii::enable_leftover_log_rotation = T;", messages)
	shut(t, start(t, archiving(dir, Compression{Name: "zstd"})))
	if a, b := archivedRecords(t, dir, "a"),
		archivedRecords(t, dir, "b"); !slices.Equal(a, []string{"1", "2"}) ||
		!slices.Equal(b, []string{"3"}) {
		t.Errorf("the archive has %q and %q", a, b)
	}
	for name := range tree(t, dir) {
		if !strings.HasPrefix(name, "archive/20") || !strings.HasSuffix(name, ".log.zst") {
			t.Errorf("unexpected file %q", name)
		}
	}
}

// Of a compressed log that was cut at any byte, the whole lines before the cut stay.
func TestRepairGzip(t *testing.T) {
	var lines []string
	for i := range 50 {
		lines = append(lines, fmt.Sprint("line ", i))
	}
	var content bytes.Buffer
	z := gzip.NewWriter(&content)
	for _, line := range lines {
		_, _ = fmt.Fprintln(z, line)
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	most := 0
	for cut := 0; cut <= content.Len(); cut += 7 {
		dir := t.TempDir()
		work := filepath.Join(dir, workDir, "1700000000-1700003600")
		if err := os.MkdirAll(work, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(work, "a.log.gz"), content.Bytes()[:cut],
			0o666); err != nil {
			t.Fatal(err)
		}
		o := optionsWith(func(o *redef.Options) { o.GzipLevel, o.RotationInterval = 1, time.Hour })
		shut(t, start(t, Config{Dir: dir, Options: &o, Location: time.UTC}))
		files := tree(t, dir)
		got := records(plain(t, files["a.2023-11-14-22-13-20.log.gz"]))
		if len(files) != 1 || len(got) < most || !slices.Equal(got, lines[:len(got)]) {
			t.Fatalf("cut at %d: files %q with records %q", cut, sortedKeys(files), got)
		}
		most = len(got)
	}
	if most < len(lines)-2 {
		t.Errorf("at most %d lines were repaired", most)
	}
}

// Retention never deletes a file that is not a log of the archive.
func TestRetention(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	logs := []string{ // from old to new, 100 bytes each
		"2026-11-01/conn.00:00:00-01:00:00.log.gz",
		"2026-11-01/sub/dns.00:00:00-01:30:00-logger-1.log",
		"2026-11-20/conn.00:00:00-01:00:00_1.log.zst",
		"2026-11-21/conn.23:00:00-00:00:00.log.gz",
		"2026-11-22/conn.10:00:00-11:00:00-logger-1.log.zst",
	}
	others := []string{
		"conn.00:00:00-01:00:00.log", "2026-11-01/notes.txt", "2026-11-01/conn.log",
		"2026-11-01/.tmp.abcd.conn.00:00:00-01:00:00",
		"other/conn.00:00:00-01:00:00.log", "2026-13-01/conn.00:00:00-01:00:00.log",
	}
	for name, c := range map[string]struct {
		age  time.Duration
		size int64
		keep int // number of newest logs that stay
	}{
		"none": {0, 0, 5},
		"age":  {72 * time.Hour, 0, 3},
		"size": {0, 250, 2},
		"both": {72 * time.Hour, 100, 1},
		"fits": {1000 * time.Hour, 500, 5},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range append(slices.Clone(logs), others...) {
				file := filepath.Join(dir, "archive", filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, make([]byte, 100), 0o666); err != nil {
					t.Fatal(err)
				}
				old := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
				if strings.Contains(name, ".tmp.") {
					old = now // it is still being written
				}
				if err := os.Chtimes(file, old, old); err != nil {
					t.Fatal(err)
				}
			}
			cfg := archiving(dir, Compression{})
			cfg.ArchiveMaxAge, cfg.ArchiveMaxBytes = c.age, c.size
			l, err := newLogger(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer l.folder().close()
			if err := l.prune(now); err != nil {
				t.Error(err)
			}
			want := append(slices.Clone(logs[len(logs)-c.keep:]), others...)
			slices.Sort(want)
			if got := sortedKeys(tree(t, filepath.Join(dir, "archive"))); !slices.Equal(got, want) {
				t.Errorf("left are\n%q\nwant\n%q", got, want)
			}
			if st := l.Stats().Rotation; st.Expired != uint64(5-c.keep) ||
				st.ExpiredBytes != 100*st.Expired {
				t.Errorf("%+v", st)
			}
			if err := l.prune(now.Add(2 * staleTemp)); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "archive", "2026-11-01",
				".tmp.abcd.conn.00:00:00-01:00:00")); err == nil {
				t.Error("an abandoned file of a compression is still there")
			}
		})
	}
}

// The archive is kept within its size while the logger runs.
func TestRetentionWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := archiving(dir, Compression{})
		cfg.ArchiveMaxBytes = 3000
		l := start(t, cfg)
		for range 20 {
			write(t, l, message(t, "n", "A::LOG", "a", "x", strings.Repeat("x", 800)))
			time.Sleep(time.Hour)
			synctest.Wait()
			total := 0
			for name, n := range sizes(t, dir) {
				if strings.HasPrefix(name, "archive/") {
					total += n
				}
			}
			if total > 3000 {
				t.Fatalf("the archive has %d bytes", total)
			}
		}
		if st := l.Stats().Rotation; st.Expired < 15 || st.Rotated != 20 {
			t.Errorf("%+v", st)
		}
	})
}
