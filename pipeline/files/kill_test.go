package files

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/pipeline/redef"
	"zmtpd/zmtp/testkit"
)

const (
	killDirEnv = "PIPELINE_TEST_KILL_DIR"
	// compression on the way to the archive; empty: while writing
	killCompressEnv = "PIPELINE_TEST_KILL_COMPRESS"
)

// killConfig is a logger that rotates and archives all the time.
func killConfig(dir string) Config {
	cfg := Config{Dir: dir, Options: redef.DefaultOptions(), Location: time.UTC,
		FlushInterval: time.Millisecond, MaxFileSize: 20_000, Archive: "archive"}
	if how := os.Getenv(killCompressEnv); how == "" {
		cfg.Options.GzipLevel = 1
	} else if err := cfg.Compress.UnmarshalText([]byte(how)); err != nil {
		panic(err)
	}
	return cfg
}

// killChild runs a logger that writes numbers to two logs until it is killed.
func killChild(dir string) {
	l, err := New(killConfig(dir))
	for i := 0; err == nil; i++ {
		for _, log := range []string{"a", "b"} {
			if err == nil {
				err = l.Write(context.Background(), killMessage(log, i))
			}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func killMessage(log string, i int) [][]byte {
	var tb testing.B
	return message(&tb, "n", "A::LOG", log,
		"x", fmt.Sprintf("%06d %s", i, strings.Repeat("x", i%300)))
}

// Whenever the logger is killed, everything that was in a file is in the archive after the next
// start: in order, once, without half lines.
func TestKilledUnderLoad(t *testing.T) {
	for round := range 6 {
		how := []string{"", "gzip:1", "zstd:1"}[round%3]
		t.Run(fmt.Sprintf("%d/%s", round, how), func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv(killCompressEnv, how)
			ext := ".log" + killConfig(dir).Compress.ext()
			if how == "" {
				ext = ".log.gz"
			}
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), killDirEnv+"="+dir)
			child.Stdout, child.Stderr = t.Output(), t.Output()
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			files := 1 + rand.IntN(30)
			testkit.Eventually(t, "some archived logs", func() bool {
				names, _ := filepath.Glob(filepath.Join(dir, "archive", "*", "*"))
				return len(names) >= files
			})
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = child.Wait()

			// The archive must have at least the content of the files that are not compressed.
			least := map[string]int{}
			for name, content := range tree(t, dir) {
				if log, _, _ := strings.Cut(path.Base(name), "."); strings.HasSuffix(name,
					".log") && !strings.HasPrefix(path.Base(name), ".") {
					for _, r := range records(content[:strings.LastIndexByte(content, '\n')+1]) {
						least[log] = max(least[log], number(t, r)+1)
					}
				}
			}
			shut(t, start(t, killConfig(dir)))
			for name := range tree(t, dir) {
				if !strings.HasPrefix(name, "archive/") || !strings.HasSuffix(name, ext) {
					if !strings.Contains(name, "/"+tempPrefix) { // deleted an hour later
						t.Errorf("left behind: %s", name)
					}
				}
			}
			for _, log := range []string{"a", "b"} {
				var numbers []int
				for _, r := range archivedRecords(t, filepath.Join(dir, "archive"), log) {
					numbers = append(numbers, number(t, r))
				}
				slices.Sort(numbers) // long names sort otherwise
				for i, n := range numbers {
					if i != n {
						t.Fatalf("%s: record %d comes in place of record %d, of %d", log, n, i,
							len(numbers))
					}
				}
				if len(numbers) < least[log] {
					t.Errorf("%s: %d records, %d were in files", log, len(numbers), least[log])
				}
			}
		})
	}
}

// number returns the number in a whole record of killMessage.
func number(t *testing.T, record string) int {
	t.Helper()
	var i int
	if _, err := fmt.Sscanf(record, "%06d", &i); err != nil || len(record) != 7+i%300 {
		t.Fatalf("record %q, %v", record, err)
	}
	return i
}
