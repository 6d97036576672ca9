package testkit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// archives are where the recordings are, below the module's root.
var archives = map[string]string{
	"cluster-logs":  "pipeline/zeek/testdata/cluster-logs.tar.gz",
	"edge-logs":     "pipeline/zeek/testdata/edge-logs.tar.gz",
	"edge-logs-ext": "pipeline/zeek/testdata/edge-logs-ext.tar.gz",
	"rotation":      "pipeline/files/testdata/rotation.tar.gz",
}

var recordings struct {
	mu    sync.Mutex
	files map[string]map[string][]byte
}

// Golden returns the files of a recording by their slash-separated path within it: log messages of
// real Zeek nodes (log-writes.bin), and in a folder for each configuration what Zeek's own logger
// wrote of them. The content is shared by all tests of the process and must not be changed. Golden
// may be called from any goroutine of the test.
func Golden(t testing.TB, name string) map[string][]byte {
	t.Helper()
	recordings.mu.Lock()
	defer recordings.mu.Unlock()
	if recordings.files[name] == nil {
		archive, ok := archives[name]
		if !ok {
			t.Fatalf("no recording %q, there are %q", name, slices.Sorted(maps.Keys(archives)))
		}
		files, err := readArchive(filepath.Join(Root(t), filepath.FromSlash(archive)))
		if err != nil {
			t.Fatal(err)
		}
		if recordings.files == nil {
			recordings.files = make(map[string]map[string][]byte)
		}
		recordings.files[name] = files
	}
	return recordings.files[name]
}

// readArchive returns the regular files of a gzipped tar by their path below its one folder.
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
		if errors.Is(err, io.EOF) {
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

// Unpack writes the files of a recording into a temporary folder of the test, and returns it.
func Unpack(t testing.TB, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for path, content := range Golden(t, name) {
		file := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Messages returns the log messages of a recording as a PUSH socket sent them, each with its parts.
// The parts belong to the caller.
func Messages(t testing.TB, name string) [][][]byte {
	t.Helper()
	return Recorded(t, name, bytes.Clone(Golden(t, name)["log-writes.bin"]))
}

// Recorded returns the messages of a recording, each with its parts, which refer to b. name is for
// errors.
func Recorded(t testing.TB, name string, b []byte) [][][]byte {
	t.Helper()
	messages, err := parseRecording(b)
	if err == nil && len(messages) == 0 {
		err = errors.New("no messages")
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return messages
}

// parseRecording cuts a recording: for each message the number of parts, for each part its length
// and its bytes. Numbers have four bytes, big-endian.
func parseRecording(b []byte) (messages [][][]byte, err error) {
	number := func() int {
		if len(b) < 4 {
			err = io.ErrUnexpectedEOF
			return 0
		}
		n := binary.BigEndian.Uint32(b)
		b = b[4:]
		return int(n)
	}
	for len(b) > 0 {
		var parts [][]byte
		for range number() {
			n := number()
			if err == nil && n > len(b) {
				err = fmt.Errorf("a part of %d bytes, %d are left", n, len(b))
			}
			if err != nil {
				return nil, err
			}
			parts = append(parts, b[:n:n])
			b = b[n:]
		}
		messages = append(messages, parts)
	}
	return messages, err
}

// Configs returns the names of a recording's configurations, sorted.
func Configs(t testing.TB, name string) []string {
	t.Helper()
	var names []string
	for path := range Golden(t, name) {
		if dir, ok := strings.CutSuffix(path, "/CONFIG"); ok {
			names = append(names, dir)
		}
	}
	if len(names) == 0 {
		t.Fatalf("the recording %s has no configurations", name)
	}
	slices.Sort(names)
	return names
}

// Root returns the folder of the module: go test runs a package's tests in the package's folder,
// below it.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod in this folder or above")
		}
		dir = parent
	}
}
