package files

import (
	"compress/gzip"
	"io"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // for the time zone of a recording

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// headerTime matches a line of #open or #close with any prefix and separator.
var headerTime = regexp.MustCompile(`(?m)^(\S{0,10}(?:open|close)\S*\s?)(\d{4}(?:-\d\d){5})$`)

func maskTimes(content string) string {
	return headerTime.ReplaceAllString(content, "${1}TIME")
}

// compareLogs compares the files in dir with the recorded ones of a configuration, whose names are
// percent-encoded.
func compareLogs(t *testing.T, dir string, recorded map[string][]byte, config string) {
	t.Helper()
	want := map[string]string{}
	for name, content := range recorded {
		if path.Dir(name) == config && path.Ext(name) == ".log" {
			decoded, err := url.PathUnescape(path.Base(name))
			if err != nil {
				t.Fatal(err)
			}
			want[decoded] = maskTimes(string(content))
		}
	}
	got := tree(t, dir)
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); len(w) == 0 ||
		!slices.Equal(g, w) {
		t.Fatalf("files\n%q\nwant\n%q", g, w)
	}
	for name := range want {
		if g := maskTimes(got[name]); g != want[name] {
			t.Errorf("%q differs:\n%s\nwant\n%s", name, excerpt(g, want[name]),
				excerpt(want[name], g))
		}
	}
}

// excerpt returns the part of a around its first difference from b.
func excerpt(a, b string) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return a[max(0, i-200):min(len(a), i+200)]
}

// The files are those that Zeek's logger wrote from the messages of a whole cluster, in both
// formats.
func TestGoldenCluster(t *testing.T) {
	messages := testkit.Messages(t, "cluster-logs")
	for config, script := range map[string]string{"tsv": "",
		"json": "redef LogAscii::use_json = T;"} {
		t.Run(config, func(t *testing.T) {
			dir := t.TempDir()
			l := start(t, Config{Dir: dir, Options: redefs(t, []byte(script))})
			write(t, l, messages...)
			shut(t, l)
			compareLogs(t, dir, testkit.Golden(t, "cluster-logs"), config)
			if n := len(tree(t, dir)); n != 33 {
				t.Errorf("%d logs, want 33", n)
			}
		})
	}
}

// The files are those that Zeek's logger wrote from every type and edge case, with the options of
// the script that configured Zeek.
func TestGoldenEdges(t *testing.T) {
	for _, name := range []string{"edge-logs", "edge-logs-ext"} {
		messages := testkit.Messages(t, name)
		for _, config := range testkit.Configs(t, name) {
			t.Run(name+"/"+config, func(t *testing.T) {
				dir := t.TempDir()
				l := start(t, Config{Dir: dir,
					Options: redefs(t, testkit.Golden(t, name)[config+"/CONFIG"])})
				write(t, l, messages...)
				shut(t, l)
				compareLogs(t, dir, testkit.Golden(t, name), config)
			})
		}
	}
}

// A batch that is cut at any byte is refused, and affects nothing else.
func TestTruncatedBatches(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{Dir: dir})
	messages := testkit.Messages(t, "edge-logs")
	var refused uint64
	for _, m := range messages {
		b, err := zeek.ParseBatch(m[3])
		if err != nil {
			t.Fatal(err)
		}
		step := max(1, len(m[3])/200)
		for n := 0; n < len(m[3]); n += step {
			err := l.WriteBatch(t.Context(), m[1], m[3][:n])
			if n < len(b.Header)+4 || b.NumRecords > 0 {
				if err == nil {
					t.Fatalf("path %q cut at byte %d of %d is accepted", b.Path, n, len(m[3]))
				}
				refused++
			}
		}
		write(t, l, m)
	}
	shut(t, l)
	compareLogs(t, dir, testkit.Golden(t, "edge-logs"), "tsv")
	st := l.Stats()
	if got := st.Received.Messages - st.Written.Messages; got != refused ||
		st.Written.Messages < uint64(len(messages)) {
		t.Errorf("%d messages dropped, want %d; %d written", got, refused, st.Written.Messages)
	}
}

// rotationConfig returns the configuration of a recording of rotation: redefs, and in the first
// line the environment.
func rotationConfig(t *testing.T, config, dir string) Config {
	t.Helper()
	script := string(testkit.Golden(t, "rotation")[config+"/CONFIG"])
	cfg := Config{Dir: dir, Options: redefs(t, []byte(script)), Suffix: "log", Location: time.UTC}
	first, _, _ := strings.Cut(script, "\n")
	for _, word := range strings.FieldsFunc(first,
		func(r rune) bool { return r == ' ' || r == ',' }) {
		word = strings.TrimSuffix(word, ".")
		if zone, ok := strings.CutPrefix(word, "TZ="); ok {
			location, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Location = location
		}
		if suffix, ok := strings.CutPrefix(word, "ZEEK_LOG_SUFFIX="); ok {
			cfg.Suffix = suffix
		}
	}
	return cfg
}

// moment is a step of a timeline: the time, the action, and the files after it with their sizes.
type moment struct {
	at    time.Time
	what  string
	files map[string]int
}

var (
	momentLine = regexp.MustCompile(`^(\d{4}(?:-\d\d){5}\.\d{3})  (.*)$`)
	fileLine   = regexp.MustCompile(`^    (\S+) +(\d+) bytes$`)
)

func timeline(t *testing.T, config string) []moment {
	t.Helper()
	var moments []moment
	for line := range strings.Lines(string(testkit.Golden(t, "rotation")[config+"/timeline.txt"])) {
		line = strings.TrimSuffix(line, "\n")
		if m := momentLine.FindStringSubmatch(line); m != nil {
			at, err := time.Parse("2006-01-02-15-04-05.000", m[1])
			if err != nil {
				t.Fatal(err)
			}
			moments = append(moments, moment{at, m[2], map[string]int{}})
		} else if m := fileLine.FindStringSubmatch(line); m != nil {
			moments[len(moments)-1].files[m[1]] = atoi(t, m[2])
		} else if !strings.HasPrefix(line, "    content of ") {
			t.Fatalf("timeline has the line %q", line)
		}
	}
	if len(moments) < 5 {
		t.Fatalf("timeline has %d moments", len(moments))
	}
	return moments
}

var rotatedTime = regexp.MustCompile(`[._](\d{4}(?:-\d\d){5})[._]`)

// sameNames compares the names of two sets of files, and returns the recorded name of each file.
// The time of a path's first file may differ: Zeek takes it from a clock that is up to a second
// late.
func sameNames(t *testing.T, got, want []string) map[string]string {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if len(got) != len(want) {
		t.Fatalf("files\n%q\nwant\n%q", got, want)
	}
	names := map[string]string{}
	first := map[string]bool{}
	for i, g := range got {
		w := want[i]
		gt, wt := rotatedTime.FindStringSubmatch(g), rotatedTime.FindStringSubmatch(w)
		if g != w && gt != nil && wt != nil {
			gPath, wPath := strings.Replace(g, gt[1], "", 1), strings.Replace(w, wt[1], "", 1)
			d := parseTime(t, gt[1]).Sub(parseTime(t, wt[1]))
			if gPath == wPath && !first[logOf(g)] && d == time.Second {
				w = g
			}
		}
		if g != w {
			t.Errorf("file %q, want %q", g, w)
		}
		if gt != nil {
			first[logOf(g)] = true
		}
		names[g] = want[i]
	}
	return names
}

var loggerSuffix = regexp.MustCompile(`log_suffix=[^_]*`)

// logOf returns the log and the logger of a rotated file.
func logOf(name string) string {
	log, _, _ := strings.Cut(path.Base(name), "__")
	log, _, _ = strings.Cut(log, ".")
	return log + " " + loggerSuffix.FindString(name)
}

func parseTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02-15-04-05", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// plain returns the text of a log that may be compressed.
func plain(t *testing.T, content string) string {
	t.Helper()
	var z io.Reader
	var err error
	switch {
	case strings.HasPrefix(content, "\x1f\x8b"):
		z, err = gzip.NewReader(strings.NewReader(content))
	case strings.HasPrefix(content, "\x28\xb5\x2f\xfd"):
		z, err = newZstdReader(strings.NewReader(content))
	default:
		return content
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rotatedFiles returns the files at the end of a configuration's recording, by path.
func rotatedFiles(t *testing.T, config string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for name, content := range testkit.Golden(t, "rotation") {
		if name, ok := strings.CutPrefix(name, config+"/files/"); ok {
			files[name] = string(content)
		}
	}
	return files
}

// sameRotated compares rotated files with the recorded ones byte by byte, except for the times of
// #open and #close: those of #close must be equal, and those of #open may differ by the time that
// Zeek needed.
func sameRotated(t *testing.T, dir, config string) {
	t.Helper()
	got, want := tree(t, dir), rotatedFiles(t, config)
	for g, w := range sameNames(t, slices.Collect(maps.Keys(got)),
		slices.Collect(maps.Keys(want))) {
		if path.Base(g) == "calls.txt" {
			sameCalls(t, got[g], want[w])
			continue
		}
		got, want := plain(t, got[g]), plain(t, want[w])
		if maskTimes(got) != maskTimes(want) {
			t.Errorf("%s differs:\n%s\nwant\n%s", g, got, want)
			continue
		}
		gt, wt := headerTime.FindAllStringSubmatch(got, -1),
			headerTime.FindAllStringSubmatch(want, -1)
		for i := range gt {
			d := parseTime(t, wt[i][2]).Sub(parseTime(t, gt[i][2]))
			if isOpen := i == 0; d != 0 && !(isOpen && d == time.Second) {
				t.Errorf("%s: %s, want %s", g, gt[i][0], wt[i][0])
			}
		}
	}
}

// callTimes matches the opening time in a call of a post-processor, which occurs twice.
var callTimes = regexp.MustCompile(`^(\d <\w+\.)([\d-]+)(\S+> <\w+> <)([\d._-]+)(>)`)

// sameCalls compares the calls of a post-processor, in any order. The opening time of a first file
// may differ as in its name.
func sameCalls(t *testing.T, got, want string) {
	t.Helper()
	lines := func(calls string) []string {
		var lines []string
		for line := range strings.Lines(calls) {
			if !strings.Contains(line, "<reporter>") { // Zeek's logger's own log
				lines = append(lines, line)
			}
		}
		slices.Sort(lines)
		return lines
	}
	g, w := lines(got), lines(want)
	same := len(g) == len(w)
	for i := 0; same && i < len(g); i++ {
		gt, wt := callTimes.FindStringSubmatch(g[i]), callTimes.FindStringSubmatch(w[i])
		if gt == nil || wt == nil {
			same = g[i] == w[i]
			continue
		}
		opened := parseTime(t, gt[2])
		d := opened.Sub(parseTime(t, wt[2]))
		same = (d == 0 || d == time.Second) && gt[4] == opened.Format("06-01-02_15.04.05") &&
			callTimes.ReplaceAllString(g[i], "$1$3$5") == callTimes.ReplaceAllString(w[i], "$1$3$5")
	}
	if !same {
		t.Errorf("calls\n%s\nwant\n%s", strings.Join(g, ""), strings.Join(w, ""))
	}
}

func sizes(t *testing.T, dir string) map[string]int {
	t.Helper()
	got := map[string]int{}
	for name, content := range tree(t, dir) {
		got[name] = len(content)
	}
	return got
}

// sameListing compares the names and sizes of the files in dir with those of a moment. It does not
// compare sizes of compressed files, which depend on the compressor and on what Zeek still has in
// memory.
func sameListing(t *testing.T, dir string, m moment) {
	t.Helper()
	got := sizes(t, dir)
	for g, w := range sameNames(t, slices.Collect(maps.Keys(got)),
		slices.Collect(maps.Keys(m.files))) {
		compressed := strings.HasSuffix(g, ".gz") && !strings.Contains(g, ".shadow.") ||
			strings.HasSuffix(g, ".zz")
		if got[g] != m.files[w] && !compressed && path.Base(g) != "calls.txt" {
			t.Errorf("%v %s: %s has %d bytes, want %d", m.at, m.what, g, got[g], m.files[w])
		}
	}
}

var (
	running = regexp.MustCompile(`^(?:(\d) )?logger(?:\(s\))? running$`)
	sent    = regexp.MustCompile(`^messages (\d+)-(\d+) sent(?:, alternating.*)?$`)
)

// replayTimeline does the same to one or two loggers, at fake times, as was done to Zeek's.
func replayTimeline(t *testing.T, config string) {
	dir := t.TempDir()
	messages := testkit.Messages(t, "rotation")
	var loggers []*Logger
	for _, m := range timeline(t, config) {
		time.Sleep(time.Until(m.at))
		s := sent.FindStringSubmatch(m.what)
		switch n := running.FindStringSubmatch(m.what); {
		case n != nil:
			names := []string{"logger"}
			if n[1] == "2" {
				names = []string{"logger-1", "logger-2"}
			}
			for _, name := range names {
				loggers = append(loggers,
					start(t, nodeConfig(t, config, dir, name, len(names) > 1)))
			}
		case s != nil:
			for i, m := range messages[atoi(t, s[1]) : atoi(t, s[2])+1] {
				write(t, loggers[i%len(loggers)], m)
			}
		case strings.HasPrefix(m.what, "files"):
			sameListing(t, dir, m)
		case m.what == "SIGTERM":
			for _, l := range loggers {
				shut(t, l)
			}
		case strings.HasPrefix(m.what, "exited"):
			sameListing(t, dir, m)
		default:
			t.Fatalf("the timeline has the unknown action %q", m.what)
		}
	}
	sameRotated(t, dir, config)
}

// nodeConfig returns the configuration of one of the loggers of a recording. Its folder exists and
// has the files that the recorded one had.
func nodeConfig(t *testing.T, config, parent, name string, several bool) Config {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if config == "directories" { // the operator makes this folder; the writer makes the others
		if err := os.Mkdir(filepath.Join(dir, "current"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if pp := testkit.Golden(t, "rotation")[config+"/files/"+name+"/pp"]; pp != nil {
		if err := os.WriteFile(filepath.Join(dir, "pp"), pp, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cfg := rotationConfig(t, config, dir)
	if several {
		cfg.Name = name
	}
	return cfg
}
