package recording

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// A file is cut at every byte. Its whole messages stay, the rest is cut off, and new messages
// follow.
func TestTornFileIsContinued(t *testing.T) {
	var file []byte
	var ends []int
	for _, parts := range [][][]byte{
		{[]byte("one"), nil, []byte("two")}, {[]byte("x")}, {bytes.Repeat([]byte("y"), 100)},
	} {
		ends = append(ends, len(file))
		file, _ = AppendMessage(file, parts...)
	}
	ends = append(ends, len(file))
	more, _ := AppendMessage(nil, []byte("more"))
	for n := range len(file) + 1 {
		whole := 0
		for _, end := range ends {
			if end <= n {
				whole = end
			}
		}
		name := filepath.Join(t.TempDir(), "recording")
		if err := os.WriteFile(name, file[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		f, cut, err := OpenFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if int(cut) != n-whole || f.Size() != int64(whole) {
			t.Errorf("in a file of %d bytes, %d were cut off, want %d", n, cut, n-whole)
		}
		if err := f.Append(more); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if got, _ := os.ReadFile(name); !bytes.Equal(got, append(file[:whole:whole], more...)) {
			t.Errorf("cut at %d: the file has %q", n, got)
		}
	}
}

// A file that is not a recording is refused and not changed.
func TestOtherFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	content := "This is something else, which nobody wants to lose.\n"
	if err := os.WriteFile(text, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		text: ErrTooLarge, dir: nil, filepath.Join(dir, "nowhere", "x"): os.ErrNotExist,
	} {
		if _, _, err := OpenFile(name); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, _ := os.ReadFile(text); string(got) != content {
		t.Errorf("the file was changed to %q", got)
	}
	if runtime.GOOS == "windows" {
		return
	}
	name := filepath.Join(dir, "new")
	f, _, err := OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fi, _ := os.Stat(name); fi.Mode().Perm() != 0o600 {
		t.Errorf("other users can read the recording: %v", fi.Mode())
	}
}

// After a failed write the file is as before.
func TestFailedWriteLeavesNoTrace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "recording")
	one, _ := AppendMessage(nil, []byte("one"))
	if err := os.WriteFile(name, one, 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	// A descriptor without write access takes the place of a full disk.
	readable, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	writable := f.f
	f.f = readable
	if err := f.Append(one); err == nil || f.Size() != int64(len(one)) {
		t.Errorf("%v, size %d", err, f.Size())
	}
	f.f = writable
	// the remains of a failed write behind the end
	if _, err := writable.WriteAt(bytes.Repeat([]byte("x"), 1000), f.size); err != nil {
		t.Fatal(err)
	}
	if err := f.Append(one); err != nil || f.Size() != int64(2*len(one)) {
		t.Errorf("%v, size %d", err, f.Size())
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(name); !bytes.Equal(got, append(one, one...)) {
		t.Errorf("%q", got)
	}
	if err := f.Append(one); !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.EBADF) {
		t.Errorf("written after Close: %v", err)
	}
}
