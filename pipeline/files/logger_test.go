package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/pipeline"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/zeek"
)

// wideColumns returns the names of n columns. Each takes 264 bytes in a batch's header.
func wideColumns(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%0250d", i)
	}
	return strings.Join(names, " ")
}

func TestMessageChecks(t *testing.T) {
	var log bytes.Buffer
	l := start(t, Config{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	good := message(t, "n", "A::LOG", "a", "x", "1")
	with := func(i int, part string) [][]byte {
		m := slices.Clone(good)
		m[i] = []byte(part)
		return m
	}
	wide := message(t, "n", "A::LOG", "a", wideColumns(300), "1")
	other := slices.Clone(good)
	other[3] = bytes.Replace(good[3], []byte("WRITER_ASCII"), []byte("WRITER_OTHER"), 1)
	trunc := zeek.ReasonTruncated
	for range 2 {
		wantDrop(t, l.Write(t.Context(), nil), pipeline.ReasonParts)
		wantDrop(t, l.Write(t.Context(), good[:3]), pipeline.ReasonParts)
		wantDrop(t, l.Write(t.Context(), append(slices.Clone(good), nil)), pipeline.ReasonParts)
		wantDrop(t, l.Write(t.Context(), with(2, "zeek-bin-serializer2")),
			pipeline.ReasonSerializer)
		wantDrop(t, l.Write(t.Context(), with(3, "")), pipeline.BatchReason(trunc))
		wantDrop(t, l.Write(t.Context(), other), pipeline.ReasonWriter)
		wantDrop(t, l.Write(t.Context(), wide), pipeline.ReasonHeader)
		write(t, l, with(0, ""), with(1, ""))
	}
	shut(t, l)
	st := l.Stats()
	for r, want := range map[pipeline.Reason]uint64{pipeline.ReasonParts: 6,
		pipeline.ReasonSerializer: 2, pipeline.BatchReason(trunc): 2, pipeline.ReasonWriter: 2,
		pipeline.ReasonHeader: 2, pipeline.ReasonPath: 0} {
		if got, ok := st.Dropped[r]; !ok || got.Messages != want {
			t.Errorf("%v: %d dropped, want %d", r, got.Messages, want)
		}
	}
	if want := (pipeline.Counts{Messages: 18, Records: 8}); st.Received != want {
		t.Errorf("received %+v, want %+v", st.Received, want)
	}
	// once for each sender and reason; a message without parts has no sender
	for reason, want := range map[string]int{"parts": 2, "serializer": 1, "truncated": 1,
		"writer": 1} {
		if n := strings.Count(log.String(), "reason="+reason+" "); n != want {
			t.Errorf("%s logged %d times, want %d:\n%s", reason, n, want, log.String())
		}
	}
}

func TestPathsConfined(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "logs")
	outside := filepath.Join(parent, "outside")
	for _, d := range []string{dir, outside, filepath.Join(dir, "dir.log")} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"away": outside, "relative": "../outside",
		"link.log": filepath.Join(outside, "target")} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	l := start(t, Config{Dir: dir})
	for _, path := range []string{
		"", "/", "/etc/x", "/dev/stdout", "..", "../x", "a/../../x", "a/../b", "a/..", ".", "./x",
		"a//b", "a/", "a/./b",
		"x\x00y", "\x00", strings.Repeat("x", 256),
		"away/x", "away/sub/x", "relative/x", "link", "dir", ".shadow.conn", ".tmp.shadow.conn",
		"sub/.shadow.conn",
		"conn.log/x", "sub/CONN.Log/x", "conn.log.gz/x",
	} {
		if err := l.Write(t.Context(), message(t, "n", "A::LOG", path, "x", "1")); err == nil {
			t.Errorf("path %q is accepted", path)
		} else {
			wantDrop(t, err, pipeline.ReasonPath)
		}
	}
	fine := []string{"plain", "sub/x", "sub/deep/er/x", "..x", "x..", "a/..b", "new\nline", "-rf",
		"~", "x y", "*", "\xff\xfe", strings.Repeat("y", 140)}
	for _, path := range fine {
		write(t, l, message(t, "n", "A::LOG", path, "x", "1"))
	}
	shut(t, l)
	got := tree(t, dir)
	for _, path := range fine {
		if !slices.Equal(records(got[path+".log"]), []string{"1"}) {
			t.Errorf("path %q: the file has %q", path, got[path+".log"])
		}
	}
	if files := tree(t, outside); len(files) != 0 {
		t.Errorf("files are written outside of the log folder: %q", sortedKeys(files))
	}
	if files := tree(t, parent); len(files) != len(fine) {
		t.Errorf("files %q", sortedKeys(files))
	}
}

// A file is where a path needs a folder, and the other way round.
func TestPathsInTheWay(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{Dir: dir})
	wantDrop(t, l.Write(t.Context(), message(t, "n", "B::LOG", "a.log/b", "x", "1")),
		pipeline.ReasonPath)
	write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
	if err := os.Mkdir(filepath.Join(dir, "c.log"), 0o777); err != nil {
		t.Fatal(err)
	}
	wantDrop(t, l.Write(t.Context(), message(t, "n", "D::LOG", "c", "x", "1")), pipeline.ReasonPath)
}

func TestTwoStreamsOnePath(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{Dir: dir})
	for i := range 3 {
		write(t, l,
			message(t, "n", "First::LOG", "conn", "x", fmt.Sprint("first", i)),
			message(t, "n", "Second/../é::LOG", "conn", "x", fmt.Sprint("second", i)),
			message(t, "n", "Third::LOG", "conn.Second_________LOG", "x", fmt.Sprint("third", i)))
	}
	shut(t, l)
	got := tree(t, dir)
	if len(got) != 3 {
		t.Errorf("files %q", sortedKeys(got))
	}
	for name, want := range map[string]string{"conn.log": "first",
		"conn.Second_______LOG.log": "second", "conn.Second_________LOG.log": "third"} {
		if r := records(got[name]); !slices.Equal(r, []string{want + "0", want + "1", want + "2"}) {
			t.Errorf("%s has %q; files %q", name, r, sortedKeys(got))
		}
	}
}

// New columns take over the name. The earlier file is moved aside.
func TestColumnsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, Config{Dir: dir, Location: time.UTC})
		write(t, l, message(t, "n", "A::LOG", "a", "x", "old"))
		time.Sleep(time.Minute + time.Second) // the node counts as gone
		write(t, l, message(t, "n2", "A::LOG", "a", "x y", "new"))
		shut(t, l)
		got := tree(t, dir)
		if !strings.HasSuffix(got["a.2000-01-01-00-00-00.log"],
			"old\n#close\t2000-01-01-00-01-01\n") ||
			!strings.Contains(got["a.log"], "#fields\tx\ty\n") || len(got) != 2 {
			t.Errorf("files %q", got)
		}
	})
}

// Nodes with old and new scripts side by side cause a few files, not one for each batch, and no
// file has records of both.
func TestColumnsAlternate(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Hour} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				o := optionsWith(func(o *redef.Options) { o.RotationInterval = interval })
				l := start(t, Config{Dir: dir, Location: time.UTC, Options: &o})
				columns := []string{"x", "x y", "y"}
				for i := range 300 {
					write(t, l, message(t, "n", "A::LOG", "a", columns[i%3],
						fmt.Sprint(columns[i%3], " ", i)))
				}
				time.Sleep(interval)
				shut(t, l)
				got := tree(t, dir)
				if len(got) != 3 {
					t.Errorf("%d files for 3 sets of columns: %q", len(got), sortedKeys(got))
				}
				total := 0
				for name, content := range got {
					_, fields, _ := strings.Cut(content, "#fields\t")
					fields, _, _ = strings.Cut(fields, "\n")
					for _, r := range records(content) {
						total++
						if !strings.HasPrefix(r, strings.ReplaceAll(fields, "\t", " ")+" ") {
							t.Errorf("%s with columns %q has the record %q", name, fields, r)
						}
					}
					if strings.Count(content, "#fields") != 1 ||
						strings.Count(content, "#close") != 1 {
						t.Errorf("%s does not have exactly one header:\n%s", name, content)
					}
				}
				if total != 300 {
					t.Errorf("%d records, want 300", total)
				}
			})
		})
	}
}

// A node that invents columns cannot cause a file for each batch. An upgrade every few hours is
// always possible.
func TestColumnsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, Config{Dir: t.TempDir(), FlushInterval: time.Minute})
		for i := range maxColumns {
			write(t, l, message(t, "n", "A::LOG", "a", fmt.Sprint("c", i), "1"))
		}
		wantDrop(t, l.Write(t.Context(), message(t, "n", "A::LOG", "a", "more", "1")),
			pipeline.ReasonManySchemas)
		for i := range 3 * maxColumns {
			time.Sleep(columnsIdle)
			write(t, l, message(t, "n", "A::LOG", "a", fmt.Sprint("later", i), "1"))
		}
		// the first set of columns again, which is new by now
		time.Sleep(columnsIdle)
		write(t, l, message(t, "n", "A::LOG", "a", "c0", "1"))
	})
}

func TestFilesBounded(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{Dir: dir, MaxNodeLogs: 3})
	for i := range 10 {
		err := l.Write(t.Context(), message(t, "n", "A::LOG", fmt.Sprint("p", i), "x", "1"))
		if i < 3 && err != nil {
			t.Errorf("path %d: %v", i, err)
		} else if i >= 3 {
			wantDrop(t, err, pipeline.ReasonManyFiles)
		}
	}
	write(t, l, message(t, "n", "A::LOG", "p0", "x", "2"))
	if n := len(tree(t, dir)); n != 3 {
		t.Errorf("%d files", n)
	}
}

// A batch with a bad value is lost alone, and if it is the first one, it leaves no file.
func TestBadValue(t *testing.T) {
	dir := t.TempDir()
	o := optionsWith(func(o *redef.Options) {
		o.RotationInterval, o.LeftoverRotation = time.Hour,
			true
	})
	l := start(t, Config{Dir: dir, Options: &o})
	bad := message(t, "n", "A::LOG", "a", "x", "good", "value")
	bad[3] = bad[3][:len(bad[3])-1]
	err := l.Write(t.Context(), bad)
	wantDrop(t, err, pipeline.BatchReason(zeek.ReasonTruncated))
	if files := tree(t, dir); len(files) != 0 {
		t.Errorf("after a bad first batch there are %q", sortedKeys(files))
	}
	write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
	wantDrop(t, l.Write(t.Context(), bad), pipeline.BatchReason(zeek.ReasonTruncated))
	write(t, l, message(t, "n", "A::LOG", "a", "x", "2"))
	shut(t, l)
	for name, content := range tree(t, dir) {
		if r := records(content); !slices.Equal(r, []string{"1", "2"}) {
			t.Errorf("%s has %q", name, r)
		}
	}
	d := l.Stats().Dropped[pipeline.BatchReason(zeek.ReasonTruncated)]
	if d != (pipeline.Counts{Messages: 2, Records: 4}) {
		t.Errorf("dropped %+v", d)
	}
}

// A file that is in the way of a log or of a rotated log is never lost.
func TestNothingReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		old := map[string]string{"a.log": "crashed\n", "a.2000-01-01-00-00-00.log": "x\n",
			"a.2000-01-01-00-00-00_1.log": "y\n"}
		for name, content := range old {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		mtime := time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(dir, "a.log"), mtime, mtime); err != nil {
			t.Fatal(err)
		}
		o := optionsWith(func(o *redef.Options) { o.RotationInterval = time.Hour })
		l := start(t, Config{Dir: dir, Options: &o, Location: time.UTC})
		write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
		shut(t, l)
		got := tree(t, dir)
		old["a.1999-12-31-00-00-00.log"] = old["a.log"]
		delete(old, "a.log")
		for name, content := range old {
			if got[name] != content {
				t.Errorf("%s has %q, want %q", name, got[name], content)
			}
		}
		if r := records(got["a.2000-01-01-00-00-00_2.log"]); len(got) != 4 ||
			!slices.Equal(r, []string{"1"}) {
			t.Errorf("files %q", got)
		}
	})
}

// Even a file that appears after the logger has looked is not truncated.
func TestCreateFile(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{Dir: dir})
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := l.openInFolder("a.log", os.O_CREATE|os.O_EXCL); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if content := tree(t, dir)["a.log"]; content != "x" {
		t.Errorf("the file holds %q", content)
	}
}

// Without rotation, a log of an earlier run is moved aside as well.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		l := start(t, Config{Dir: dir})
		write(t, l, message(t, "n", "A::LOG", "a", "x", fmt.Sprint(i)))
		shut(t, l)
	}
	got := tree(t, dir)
	if len(got) != 3 || !slices.Equal(records(got["a.log"]), []string{"2"}) {
		t.Errorf("files %q", got)
	}
}

// Records are in the file within the flush interval.
func TestFlushInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, Config{Dir: dir})
		for i := range 20 {
			time.Sleep(time.Duration(i) * 77 * time.Millisecond)
			write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
			time.Sleep(time.Second)
			synctest.Wait()
			if n := len(records(tree(t, dir)["a.log"])); n != i+1 {
				t.Fatalf("%d records in the file, want %d", n, i+1)
			}
		}
	})
}

// A record that arrives after a tick is not in the file that ends with the tick, even if the timer
// is late.
func TestRotationOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := optionsWith(func(o *redef.Options) { o.RotationInterval = 10 * time.Second })
		l, err := newLogger(Config{Dir: dir, Options: &o, Location: time.UTC}) // without timer
		if err != nil {
			t.Fatal(err)
		}
		close(l.timerDone)
		time.Sleep(3 * time.Second)
		for i := range 20 {
			write(t, l, message(t, "n", "A::LOG", "a", "x", fmt.Sprint(i)))
			time.Sleep(2 * time.Second)
		}
		time.Sleep(time.Hour) // ticks are missed
		write(t, l, message(t, "n", "A::LOG", "a", "x", "late"))
		shut(t, l)
		want := map[string][]string{
			"a.2000-01-01-00-00-03.log": {"0", "1", "2", "3"},
			"a.2000-01-01-00-00-10.log": {"4", "5", "6", "7", "8"},
			"a.2000-01-01-00-00-20.log": {"9", "10", "11", "12", "13"},
			"a.2000-01-01-00-00-30.log": {"14", "15", "16", "17", "18"},
			"a.2000-01-01-00-00-40.log": {"19"},
			"a.2000-01-01-01-00-40.log": {"late"},
		}
		got := tree(t, dir)
		for name := range want {
			if r := records(got[name]); !slices.Equal(r, want[name]) {
				t.Errorf("%s has %q, want %q", name, r, want[name])
			}
		}
		if len(got) != len(want) ||
			!strings.HasSuffix(got["a.2000-01-01-00-00-10.log"], "#close\t2000-01-01-00-00-20\n") {
			t.Errorf("files %q", got)
		}
	})
}

// If the rotation directory cannot be made, the log goes on.
func TestRotationDirFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	o := optionsWith(func(o *redef.Options) {
		o.RotationInterval, o.RotationDir = time.Hour,
			"file/sub"
	})
	l := start(t, Config{Dir: dir, Options: &o})
	write(t, l, message(t, "n", "A::LOG", "sub/a", "x", "1"))
	shut(t, l)
	files := tree(t, dir)
	if names := sortedKeys(files); len(names) != 2 || !strings.HasPrefix(names[1], "sub/a.20") ||
		l.Stats().LastError == nil {
		t.Errorf("files %q, last error %v", names, l.Stats().LastError)
	}
}

// The rotation directory may be outside of the log folder.
func TestRotationDirOutside(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "logger")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	o := optionsWith(func(o *redef.Options) {
		o.RotationInterval, o.RotationDir, o.LeftoverRotation = time.Hour, "../log-queue", true
	})
	l := start(t, Config{Dir: dir, Options: &o})
	write(t, l, message(t, "n", "A::LOG", "sub/a", "x", "1"))
	if names := sortedKeys(tree(t, dir)); !slices.Equal(names,
		[]string{"sub/.shadow.a.log", "sub/a.log"}) {
		t.Errorf("while open: %q", names)
	}
	shut(t, l)
	if names := sortedKeys(tree(t, parent)); len(names) != 1 ||
		!strings.HasPrefix(names[0], "log-queue/sub/a.20") {
		t.Errorf("files %q", names)
	}
}

// After a crash the logs below the log folder are rotated as well, at the start and not when a node
// sends to their path again. The half line that the crash left is cut off. Unfinished shadows are
// removed.
func TestLeftoverInSubfolder(t *testing.T) {
	for _, archive := range []string{"", "archive"} {
		dir := t.TempDir()
		script := "redef Log::default_rotation_interval = 1 hr; redef " +
			"LogAscii::enable_leftover_log_rotation = T;"
		crash(t, dir, script, [][][]byte{
			message(t, "n", "A::LOG", "sub/deep/a", "x", "1"),
			message(t, "n", "A::LOG", "sub/b", "x", "2"),
		})
		f, err := os.OpenFile(filepath.Join(dir, "sub/deep/a.log"), os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.WriteString("half a li")
			err = errors.Join(err, f.Close())
		}
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "sub", tmpShadowPrefix+"c.log"), nil,
			0o666))
		if err != nil {
			t.Fatal(err)
		}
		l := start(t, Config{Dir: dir, Options: redefs(t, []byte(script)), Location: time.UTC,
			Archive: archive})
		write(t, l, message(t, "n", "A::LOG", "sub/b", "x", "3"))
		shut(t, l)
		files := tree(t, dir)
		var all []string
		for _, name := range sortedKeys(files) {
			all = append(all, records(files[name])...)
			if base := filepath.Base(name); base == "a.log" || base == "b.log" {
				t.Errorf("%s is not rotated", name)
			}
		}
		slices.Sort(all)
		if len(files) != 3 || !slices.Equal(all, []string{"1", "2", "3"}) {
			t.Errorf("archive %q: files %q", archive, files)
		}
	}
}

func TestClose(t *testing.T) {
	l := start(t, Config{Dir: t.TempDir()})
	var closing sync.WaitGroup
	for range 4 {
		closing.Go(func() {
			if err := l.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	closing.Wait()
	m := message(t, "n", "A::LOG", "a", "x", "1")
	for _, m := range [][][]byte{m, m[:2]} {
		if err := l.Write(t.Context(), m); !errors.Is(err, ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
	}
	if st := l.Stats(); st.Received != (pipeline.Counts{}) {
		t.Errorf("received %+v after Close", st.Received)
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"missing folder": {Dir: filepath.Join(dir, "missing")},
		"file":           {Dir: file},
		"log folder": {Dir: dir,
			Options: &redef.Options{Format: zeek.DefaultOptions(), LogDir: "file/x"}},
		"suffix":   {Dir: dir, Suffix: "a/b"},
		"interval": {Dir: dir, FlushInterval: -1},
		"files":    {Dir: dir, MaxFiles: -1},
	} {
		if l, err := New(cfg); err == nil {
			t.Errorf("%s: New accepts it", name)
			l.Close(t.Context())
		}
	}
}

func TestSuffixFromEnvironment(t *testing.T) {
	t.Setenv("ZEEK_LOG_SUFFIX", "txt")
	dir := t.TempDir()
	l := start(t, Config{Dir: dir})
	write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
	if names := sortedKeys(tree(t, dir)); !slices.Equal(names, []string{"a.txt"}) {
		t.Errorf("files %q", names)
	}
}

// For any order of the batches of several senders, and any times of rotation, every line is written
// once, and those of each sender in order.
func TestInterleaving(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type batch struct {
			message [][]byte
			lines   []string
		}
		senders := rapid.IntRange(1, 5).Draw(rt, "senders")
		paths := rapid.IntRange(1, 4).Draw(rt, "paths")
		columns := rapid.IntRange(1, 2).Draw(rt, "columns")
		rotate := rapid.Bool().Draw(rt, "rotate")
		queues := make([][]batch, senders)
		want := map[string][]string{} // by sender and path
		for s := range queues {
			for i := range rapid.IntRange(0, 30).Draw(rt, "batches") {
				path := fmt.Sprint("p", rapid.IntRange(1, paths).Draw(rt, "path"))
				set := strings.Repeat("x ", rapid.IntRange(1, columns).Draw(rt, "set")) + "z"
				var lines []string
				for j := range rapid.IntRange(0, 3).Draw(rt, "lines") {
					lines = append(lines, fmt.Sprintf("%d:%d:%d", s, i, j))
				}
				queues[s] = append(queues[s],
					batch{message(t, fmt.Sprint(s), "A::LOG", path, set, lines...), lines})
				key := fmt.Sprint(s, path, strings.Count(set, " "))
				want[key] = append(want[key], lines...)
			}
		}
		dir, err := os.MkdirTemp("", "pipeline")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		o := optionsWith(func(o *redef.Options) {
			if rotate {
				o.RotationInterval = time.Second
			}
		})
		l, err := New(Config{Dir: dir, Options: &o, FlushInterval: time.Millisecond})
		if err != nil {
			rt.Fatal(err)
		}
		var sending sync.WaitGroup
		for _, queue := range queues {
			sending.Go(func() {
				for _, b := range queue {
					if err := l.Write(context.Background(), b.message); err != nil {
						t.Error(err)
					}
					if err := l.Stats().Check(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		sending.Wait()
		if err := l.Close(context.Background()); err != nil {
			rt.Fatal(err)
		}
		// Each file has a part for each sender, path and set of columns. A part has consecutive
		// lines, so the order of parts is that of their first lines.
		parts := map[string][][]string{}
		for name, content := range tree(t, dir) {
			path, _, _ := strings.Cut(name, ".")
			ofFile := map[string][]string{}
			for _, r := range records(content) {
				line, _, _ := strings.Cut(r, "\t")
				sender, _, _ := strings.Cut(line, ":")
				key := fmt.Sprint(sender, path, strings.Count(r, "\t"))
				ofFile[key] = append(ofFile[key], line)
			}
			for key, lines := range ofFile {
				parts[key] = append(parts[key], lines)
			}
		}
		for key := range want {
			slices.SortFunc(parts[key], func(a, b []string) int {
				return slices.Index(want[key], a[0]) - slices.Index(want[key], b[0])
			})
			if got := slices.Concat(parts[key]...); !slices.Equal(got, want[key]) {
				rt.Errorf("%s: got %q, want %q", key, got, want[key])
			}
			delete(parts, key)
		}
		if len(parts) != 0 {
			rt.Errorf("%q is in a file and was not sent", parts)
		}
		if st := l.Stats(); st.Written != st.Received {
			rt.Errorf("received %+v, written %+v", st.Received, st.Written)
		}
	})
}

// Many headers with the same columns, as from nodes with many filters, fit in the cache and no more
// memory than it may have.
func TestHeaderCacheBounded(t *testing.T) {
	const maxHeaderCache = 1 << 20
	l := start(t, Config{Dir: t.TempDir()})
	l.maxHeaderCache = maxHeaderCache
	m := message(t, "n", "A::LOG", "a", wideColumns(240), "1")
	const n = 2 * maxHeaderCache / (64 << 10)
	for i := range n {
		filter := fmt.Sprintf("%07d", i)
		m[3] = bytes.Replace(m[3], m[3][bytes.Index(m[3], []byte("ASCII"))+9:][:7], []byte(filter),
			1)
		write(t, l, m)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if size := len(l.headers) * (64 << 10); size > maxHeaderCache+maxHeaderCache/8 ||
		len(l.headers) < n/8 {
		t.Errorf("%d headers are in the cache", len(l.headers))
	}
}
