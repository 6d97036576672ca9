package pipelinetest

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Golden returns the files of a recording by their path within it. The test's package is a folder of pipeline.
var Golden = func() func(t testing.TB, name string) map[string][]byte {
	var mu sync.Mutex
	cache := make(map[string]map[string][]byte)
	return func(t testing.TB, name string) map[string][]byte {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if cache[name] == nil {
			archive := filepath.Join("..", "zeek", "testdata", name+".tar.gz")
			if name == "rotation" {
				archive = filepath.Join("..", "files", "testdata", "rotation.tar.gz")
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

// Configs returns the names of a recording's configurations.
func Configs(t testing.TB, name string) []string {
	t.Helper()
	var names []string
	for path := range Golden(t, name) {
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
