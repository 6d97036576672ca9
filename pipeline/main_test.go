package pipeline

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"zmtpd/pipeline/recording"
	"zmtpd/pipeline/zeek"
)

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

// golden returns the files of a recording by their path within it. Those of
// single batches stand with the codec's tests.
var golden = func() func(t testing.TB, name string) map[string][]byte {
	var mu sync.Mutex
	cache := make(map[string]map[string][]byte)
	return func(t testing.TB, name string) map[string][]byte {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if cache[name] == nil {
			archive := filepath.Join("zeek", "testdata", name+".tar.gz")
			if name == "rotation" {
				archive = filepath.Join("testdata", "rotation.tar.gz")
			}
			files, err := readArchive(archive)
			if err != nil {
				t.Fatal(err)
			}
			cache[name] = files
		}
		return cache[name]
	}
}()

func readArchive(name string) (map[string][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if _, path, ok := strings.Cut(h.Name, "/"); ok {
			if files[path], err = io.ReadAll(tr); err != nil {
				return nil, err
			}
		}
	}
}

// goldenMessages returns the messages of a recording, each with four parts.
func goldenMessages(t testing.TB, name string) [][][]byte {
	t.Helper()
	var messages [][][]byte
	for m, err := range recording.NewReader(bytes.NewReader(golden(t, name)["log-writes.bin"])).All() {
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	if len(messages) == 0 {
		t.Fatal("the recording is empty")
	}
	return messages
}

// configs returns the names of a recording's configurations.
func configs(t testing.TB, name string) []string {
	t.Helper()
	var names []string
	for path := range golden(t, name) {
		if dir, ok := strings.CutSuffix(path, "/CONFIG"); ok {
			names = append(names, dir)
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s has no configurations", name)
	}
	slices.Sort(names)
	return names
}

// redefs returns the options that a script sets.
func redefs(t testing.TB, script []byte) *Options {
	t.Helper()
	o := DefaultOptions()
	if _, err := o.Redefs(script); err != nil {
		t.Fatal(err)
	}
	return o
}

// start returns a logger that the test closes, unless it does so itself. What it
// logs is the test's output.
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
	if st.Queued != (Counts{}) || st.OpenFiles != 0 {
		t.Errorf("after Close %+v are queued and %d files open", st.Queued, st.OpenFiles)
	}
}

// balancedAccounts checks that every message and record is accounted for.
func balancedAccounts(st Accounts) error {
	sum := st.Written
	sum.add(st.Queued)
	for _, d := range st.Dropped {
		sum.add(d)
	}
	if sum != st.Received {
		return fmt.Errorf("received %+v, but written, queued and dropped are %+v", st.Received, sum)
	}
	var logs, senders Counts
	for _, s := range st.Logs {
		logs.add(s.Written)
		if err := checkSum(s.Received, s.Written, s.Queued, s.Dropped); err != nil {
			return fmt.Errorf("log %q of %q: %w", s.Path, s.Stream, err)
		}
	}
	for _, s := range st.Senders {
		senders.add(s.Received)
		if err := checkSum(s.Received, s.Written, s.Queued, s.Dropped); err != nil {
			return fmt.Errorf("sender %q: %w", s.Node, err)
		}
	}
	if logs != st.Written || senders != st.Received {
		return fmt.Errorf("written %+v, by log %+v; received %+v, by sender %+v", st.Written, logs, st.Received, senders)
	}
	return nil
}

func checkSum(received, written, queued, dropped Counts) error {
	sum := written
	sum.add(queued)
	sum.add(dropped)
	if sum != received {
		return fmt.Errorf("received %+v, but written, queued and dropped are %+v, %+v, %+v", received, written, queued, dropped)
	}
	return nil
}

func checkBalance(t testing.TB, st Stats) {
	t.Helper()
	checkAccounts(t, st.Accounts)
}

func checkAccounts(t testing.TB, st Accounts) {
	t.Helper()
	if err := balancedAccounts(st); err != nil {
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

// message returns a log message of one node with these lines, one string column each.
func message(t testing.TB, node, stream, path string, columns string, lines ...string) [][]byte {
	t.Helper()
	s := &zeek.Schema{Stream: stream, Writer: writerASCII, Filter: "default", Path: path}
	for c := range strings.SplitSeq(columns, " ") {
		s.Fields = append(s.Fields, zeek.Field{Name: c, Type: zeek.TypeString})
	}
	var records [][]zeek.Value
	for _, line := range lines {
		record := make([]zeek.Value, len(s.Fields))
		for i := range record {
			record[i] = zeek.Value{Type: zeek.TypeString, Text: line}
		}
		records = append(records, record)
	}
	batch, err := zeek.AppendBatch(nil, s, records)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{[]byte("log-write"), []byte(node), []byte(zeek.SerializerName), batch}
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
		if errors.Is(err, fs.ErrNotExist) { // it went meanwhile
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

// records returns the lines of a log that are no header.
func records(content string) []string {
	var lines []string
	for line := range strings.Lines(content) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// wantDrop checks that err is the refusal of a message for the reason.
func wantDrop(t testing.TB, err error, want Reason) {
	t.Helper()
	e, ok := errors.AsType[*DropError](err)
	if !ok {
		t.Errorf("got error %v, want a drop for %v", err, want)
	} else if e.Reason != want {
		t.Errorf("got drop for %v (%v), want %v", e.Reason, err, want)
	}
}
