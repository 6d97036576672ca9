package replay

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"zmtpd/pipeline/recording"
)

// record returns a recording of messages with one part each.
func record(t *testing.T, messages ...string) (b []byte) {
	t.Helper()
	for _, m := range messages {
		var err error
		if b, err = recording.AppendMessage(b, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// write writes a file and returns its name.
func write(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// read returns the first parts of the messages of one pass.
func read(t *testing.T, f *File, s Selection) (all []string) {
	t.Helper()
	for m, err := range f.Messages(t.Context(), s) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Publish != s.Publish {
			t.Errorf("message %q: published %v, want %v", m.Part(0), m.Publish, s.Publish)
		}
		all = append(all, string(m.Part(0)))
	}
	return all
}

// Each pass has all messages that were in the file when it was opened.
func TestPassesOfRecording(t *testing.T) {
	name := write(t, record(t, "one", "two"))
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(record(t, "later")); err != nil {
		t.Fatal(err)
	}
	for pass := 1; pass <= 2; pass++ {
		if got := read(t, f, Selection{Push: true}); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("pass %d: %q", pass, got)
		}
		if f.Passes() != float64(pass) {
			t.Errorf("%v passes, want %d", f.Passes(), pass)
		}
	}
	if !f.Recording() || f.Torn() != nil {
		t.Errorf("recording %v, torn %v", f.Recording(), f.Torn())
	}
}

// The whole messages of a torn recording are read; a file without a whole message is an error.
func TestTornRecording(t *testing.T) {
	whole := record(t, "one", "two")
	f, err := Open(write(t, whole[:len(whole)-1]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := read(t, f, Selection{Publish: true}); !slices.Equal(got, []string{"one"}) ||
		f.Torn() == nil {
		t.Errorf("%q, torn %v", got, f.Torn())
	}
	for _, content := range [][]byte{whole[:5], {0}, []byte("text"), make([]byte, 100)} {
		f, err := Open(write(t, content))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		failed := false
		for _, err := range f.Messages(t.Context(), Selection{Push: true}) {
			failed = err != nil
		}
		if !failed {
			t.Errorf("%q was read without an error", content)
		}
	}
	for name, path := range map[string]string{"empty": write(t, nil), "folder": t.TempDir()} {
		if f, err := Open(path); err == nil {
			f.Close()
			t.Errorf("opened: %s", name)
		}
	}
}

// A selection of a capture has the messages of the chosen socket types and ports only.
func TestSelectionOfCapture(t *testing.T) {
	f, err := Open(filepath.Join("..", "testdata", "cluster.pcap.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	logs := len(read(t, f, Selection{Push: true}))
	events := len(read(t, f, Selection{Publish: true}))
	if logs == 0 || events == 0 {
		t.Fatalf("%d logs and %d events, want some of both", logs, events)
	}
	if n := len(read(t, f, Selection{Push: true, Ports: []uint16{15557}})); n != logs {
		t.Errorf("%d logs to the logger's port, want %d", n, logs)
	}
	if n := len(read(t, f, Selection{Publish: true, Ports: []uint16{15557}})); n != 0 {
		t.Errorf("%d events to the logger's port, want none", n)
	}
}
