package files

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// Both ways to move a file move it within a folder and to another one, and never replace a file.
func TestRenameNew(t *testing.T) {
	for name, rename := range map[string]func(*os.Root, string, *os.Root, string) error{
		"renameNew": renameNew, "renameReserving": renameReserving,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, d := range []string{"src/sub", "dst/sub"} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range []string{"src/sub/a", "src/sub/b", "src/sub/c", "dst/sub/taken"} {
				if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			src, err := os.OpenRoot(filepath.Join(dir, "src"))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			dst, err := os.OpenRoot(filepath.Join(dir, "dst"))
			if err != nil {
				t.Fatal(err)
			}
			defer dst.Close()
			for _, tc := range []struct {
				old string
				dst *os.Root
				new string
				err error
			}{
				{"sub/a", src, "a", nil},
				{"sub/b", dst, "sub/b", nil},
				{"sub/c", dst, "sub/taken", fs.ErrExist},
				{"sub/c", src, "a", fs.ErrExist},
				{"sub/none", dst, "sub/none", fs.ErrNotExist},
			} {
				if err := rename(src, tc.old, tc.dst, tc.new); !errors.Is(err, tc.err) {
					t.Errorf("%s to %s: %v, want %v", tc.old, tc.new, err, tc.err)
				}
			}
			want := map[string]string{"src/a": "src/sub/a", "dst/sub/b": "src/sub/b",
				"src/sub/c": "src/sub/c", "dst/sub/taken": "dst/sub/taken"}
			if got := tree(t, dir); !maps.Equal(got, want) {
				t.Errorf("files %q, want %q", got, want)
			}
		})
	}
}
