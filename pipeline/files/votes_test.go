package files

import (
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/pipeline"
)

// allRecords returns the records of all files below dir, sorted.
func allRecords(t *testing.T, dir string) (all []string) {
	for _, content := range tree(t, dir) {
		all = append(all, records(content)...)
	}
	slices.Sort(all)
	return all
}

// A node sends one odd set of columns after another to a log, before and between the batches of the
// others. After many it is refused and named. The others lose nothing, and the file with the log's
// name is theirs.
func TestOddColumns(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		l := start(t, Config{Dir: dir, Location: time.UTC,
			Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for i := range 2 * maxColumns {
			m := message(t, "evil", "DNS::LOG", "dns", fmt.Sprint("odd", i), "odd")
			if err := l.Write(t.Context(), m); err != nil {
				wantDrop(t, err, pipeline.ReasonManySchemas)
			}
		}
		var want []string
		for i := range 100 {
			for _, node := range []string{"a", "b"} {
				line := fmt.Sprintf("%s %03d", node, i)
				write(t, l, message(t, node, "DNS::LOG", "dns", "x", line))
				if i > 0 {
					want = append(want, line)
				}
			}
			_ = l.Write(t.Context(),
				message(t, "evil", "DNS::LOG", "dns", fmt.Sprint("odd", i%4), "odd"))
			time.Sleep(time.Second)
		}
		shut(t, l)
		got := records(tree(t, dir)["dns.log"])
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("dns.log lacks %q", line)
			}
		}
		if slices.Contains(got, "odd") {
			t.Error("dns.log has columns that only one node sends")
		}
		for _, s := range l.Stats().Senders {
			if dropped := s.ByReason[pipeline.ReasonManySchemas].Messages; (dropped > 0) != (s.Node == "evil") {
				t.Errorf("node %q: %d messages dropped", s.Node, dropped)
			}
		}
		if !strings.Contains(log.String(), "first_from=evil") {
			t.Errorf("the log does not name the node:\n%s", log.String())
		}
	})
}

// A node sends another stream to a log's path before the others. Within seconds the path's name
// belongs to the others, and nothing is lost.
func TestOddStream(t *testing.T) {
	for _, honest := range [][]string{{"a"}, {"a", "b", "c"}} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			var log lockedBuffer
			l := start(t, Config{Dir: dir, Location: time.UTC,
				Logger: slog.New(slog.NewTextHandler(&log, nil))})
			write(t, l, message(t, "evil", "EVIL::LOG", "http", "x", "evil"))
			var all, late []string
			for i := range 10 {
				for _, node := range honest {
					line := fmt.Sprintf("%s %03d", node, i)
					write(t, l, message(t, node, "HTTP::LOG", "http", "x", line))
					all = append(all, line)
					if i > 5 {
						late = append(late, line)
					}
				}
				write(t, l, message(t, "evil", "EVIL::LOG", "http", "x", "evil"))
				time.Sleep(time.Second)
			}
			shut(t, l)
			got := records(tree(t, dir)["http.log"])
			for _, line := range late {
				if !slices.Contains(got, line) {
					t.Errorf("http.log lacks %q: %q", line, got)
				}
			}
			if slices.Contains(got, "evil") {
				t.Error("http.log has the stream that only one node sends")
			}
			every := allRecords(t, dir)
			for _, line := range all {
				if !slices.Contains(every, line) {
					t.Errorf("%q is lost", line)
				}
			}
			if !strings.Contains(log.String(), "from=evil") {
				t.Errorf("the log does not name the node:\n%s", log.String())
			}
		})
	}
}

// A node invents paths without end. It is refused, counted and named. Others get the paths that
// they need.
func TestManyPaths(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{Dir: dir, MaxNodeLogs: 20})
	for i := range 100 {
		_ = l.Write(t.Context(), message(t, "evil", "EVIL::LOG", fmt.Sprint("p", i), "x", "1"))
	}
	for i := range 10 {
		write(t, l, message(t, "a", "A::LOG", fmt.Sprint("a", i), "x", "1"))
	}
	shut(t, l)
	st := l.Stats()
	for _, s := range st.Senders {
		if want := map[string]uint64{"evil": 80}[s.Node]; s.ByReason[pipeline.ReasonManyFiles].Messages != want {
			t.Errorf("node %q: dropped %+v, want %d", s.Node, s.ByReason, want)
		}
	}
	if n := len(tree(t, dir)); n != 30 {
		t.Errorf("%d files", n)
	}
	if n := len(l.paths); n != 30 {
		t.Errorf("%d paths are kept in memory", n)
	}
}

// Many nodes invent paths. Each path gets a file, the least recently used logs make room, and
// nothing is lost.
func TestLeastUsedLogsMakeRoom(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, Config{Dir: dir, Location: time.UTC})
		l.maxLogs = 10
		var want []string
		for i := range 100 {
			for _, name := range []string{"busy", fmt.Sprintf("p%02d", i%30)} {
				line := fmt.Sprintf("%s %d", name, i)
				write(t, l, message(t, fmt.Sprint("n", i%7), "A::LOG", name, "x", line))
				want = append(want, line)
			}
			time.Sleep(time.Second)
		}
		if len(l.logs) > 10 || len(l.files) > 10 {
			t.Errorf("%d logs, %d files", len(l.logs), len(l.files))
		}
		shut(t, l)
		slices.Sort(want)
		if got := allRecords(t, dir); !slices.Equal(got, want) {
			t.Errorf("%d records, want %d", len(got), len(want))
		}
		if n := len(records(tree(t, dir)["busy.log"])); n != 100 {
			t.Errorf("the file of the busy log has %d records", n)
		}
	})
}

// The scripts of a cluster change: its nodes end and new ones begin, one after the other or all at
// once. That causes few files, each with one set of columns, and the new columns get the log's
// name.
func TestScriptsChange(t *testing.T) {
	for _, pause := range []time.Duration{0, 10 * time.Second, time.Minute} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			l := start(t, Config{Dir: dir, Location: time.UTC})
			const nodes = 4
			columns := make([]string, nodes)
			ids := make([]string, nodes)
			for i := range nodes {
				columns[i], ids[i] = "x", fmt.Sprint("old", i)
			}
			seconds := func(n time.Duration) {
				for range n / time.Second {
					for i, c := range columns {
						write(t, l, message(t, ids[i], "A::LOG", "a", c, c))
					}
					time.Sleep(time.Second)
				}
			}
			seconds(2 * time.Minute)
			for i := range nodes {
				columns[i], ids[i] = "x y", fmt.Sprint("new", i)
				seconds(pause)
			}
			seconds(2 * time.Minute)
			shut(t, l)
			files := tree(t, dir)
			if len(files) > 4 {
				t.Errorf("pause %v: files %q", pause, sortedKeys(files))
			}
			for name, content := range files {
				got := records(content)
				slices.Sort(got)
				if got = slices.Compact(got); len(got) != 1 {
					t.Errorf("pause %v: %s has records of %d kinds", pause, name, len(got))
				} else if path.Base(name) == "a.log" && !strings.Contains(got[0], "y") {
					t.Errorf("pause %v: the log's name belongs to the old columns", pause)
				}
			}
		})
	}
}
