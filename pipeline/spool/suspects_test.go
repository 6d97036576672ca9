package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kill ends a spool as the death of its process during deliveries would.
func kill(s *Spool) {
	crash(s)
	if s.suspects.f != nil {
		s.suspects.f.Close()
	}
}

// A record at which two processes have died is told apart from records that were only being
// delivered.
func TestDeaths(t *testing.T) {
	cfg := quiet(t.TempDir())
	s, _ := start(t, cfg)
	seqs := appendRecords(t, s, "killer", "bystander", "delivered", "never begun")
	deaths := func() string {
		t.Helper()
		var all []int
		for _, seq := range seqs {
			all = append(all, s.Deaths(seq))
		}
		return fmt.Sprint(all)
	}
	for _, seq := range seqs[:3] {
		s.Begin(seq)
	}
	s.End(seqs[2])
	s.Ack(seqs[2])
	kill(s)

	s, _ = start(t, cfg)
	if got := deaths(); got != "[1 1 0 0]" {
		t.Errorf("after one death: %s", got)
	}
	s.Begin(seqs[0])
	kill(s)

	s, _ = start(t, cfg)
	if got := deaths(); got != "[2 1 0 0]" {
		t.Errorf("after two deaths: %s", got)
	}
	kill(s) // before any delivery

	s, _ = start(t, cfg)
	if got := deaths(); got != "[2 1 0 0]" {
		t.Errorf("after a start that delivered nothing: %s", got)
	}
	s.Begin(seqs[1])
	s.End(seqs[1]) // it does not kill
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s, _ = start(t, cfg)
	if got := deaths(); got != "[2 0 0 0]" {
		t.Errorf("after an orderly end: %s", got)
	}
	path, err := s.SetAside(seqs[0], []byte("killer"))
	if err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); string(content) != "killer" || err != nil ||
		filepath.Dir(path) != filepath.Join(cfg.Dir, asideDir) {
		t.Errorf("%s has %q, %v", path, content, err)
	}
	if got := deaths(); got != "[0 0 0 0]" || s.Stats().SetAside != 1 || s.Stats().Records != 3 {
		t.Errorf("after it was set aside: %s, %+v", got, s.Stats())
	}
	again, err := s.SetAside(seqs[0], []byte("another"))
	if content, _ := os.ReadFile(path); err != nil || again == path || string(content) != "killer" {
		t.Errorf("file %s replaces file %s, error %v", again, path, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, suspectsName)); !os.IsNotExist(err) {
		t.Errorf("there are no suspects but the file exists: %v", err)
	}
}

// The file of suspects is bounded, and damage in it costs no record.
func TestSuspectsBounded(t *testing.T) {
	cfg := quiet(t.TempDir())
	s, _ := start(t, cfg)
	const n = maxSlots + 100
	records := make([]string, n)
	seqs := appendRecords(t, s, records...)
	for _, seq := range seqs {
		s.Begin(seq)
	}
	kill(s)
	name := filepath.Join(cfg.Dir, suspectsName)
	content, err := os.ReadFile(name)
	if err != nil || len(content) != suspectsHeader+maxSlots*slotSize {
		t.Fatalf("%d bytes, %v", len(content), err)
	}

	for what, change := range map[string]func(b []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"cut off":   func(b []byte) []byte { return b[:len(b)-1] },
		"no magic":  func(b []byte) []byte { b[0] = 0; return b },
		"one slot":  func(b []byte) []byte { b[suspectsHeader+3] ^= 1; return b },
		"too large": func(b []byte) []byte { return append(b, b...) },
	} {
		if err := os.WriteFile(name, change([]byte(string(content))), 0o666); err != nil {
			t.Fatal(err)
		}
		s, recovered := start(t, cfg)
		if len(recovered) != n {
			t.Errorf("%s: %d records", what, len(recovered))
		}
		found := 0
		for _, seq := range seqs {
			found += s.Deaths(seq)
		}
		if want := map[string]int{"empty": 0, "cut off": maxSlots - 1, "no magic": 0,
			"one slot": maxSlots - 1, "too large": maxSlots}[what]; found != want {
			t.Errorf("%s: %d deaths, want %d", what, found, want)
		}
		kill(s)
	}

	content[11] = suspectsVersion + 1
	if err := os.WriteFile(name, content, 0o666); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(cfg, nil); err == nil || !strings.Contains(err.Error(), suspectsName) {
		s.Close()
		t.Errorf("a later version: %v", err)
	}
}

// With SyncEach, a record and its segment's entry in the folder are synced when Append returns.
func TestSyncEach(t *testing.T) {
	cfg := quiet(t.TempDir())
	cfg.SyncEach = true
	var syncs []string
	s, err := openSpool(cfg, nil, func(root *os.Root, name string, flag int) (file, error) {
		f, err := openFile(root, name, flag)
		if err != nil {
			return nil, err
		}
		return &syncCounter{f, func() { syncs = append(syncs, name) }}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	appendRecords(t, s, "a", "b")
	segment := segmentName(1)
	if want := fmt.Sprint([]string{segment, ".", segment}); fmt.Sprint(syncs) != want {
		t.Errorf("synced %v, want %v", syncs, want)
	}
}

// syncCounter is a file that counts calls of Sync.
type syncCounter struct {
	file
	synced func()
}

func (f *syncCounter) Sync() error {
	f.synced()
	return f.file.Sync()
}
