package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"zmtpd/zmtp/testkit"
)

// At the end every log goes to the archive, compressed, with the name of the logger.
func TestArchiveFlags(t *testing.T) {
	t.Parallel()
	dir, archive := t.TempDir(), t.TempDir()
	d := startDaemon(t, "logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir, "--rotate", "1h",
		"--name", "logger-1", "--archive", archive, "--archive-compress", "zstd:19")
	push := connect(t, d.Endpoint("PULL"))
	if err := push.Send(testkit.Context(t), logMessage(t, "node", "test", "hello")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the record",
		func() bool { return d.status().Logger.sink(t, sinkFiles).Written.Records == 1 })
	if n := d.Metric("zmtpd_files_rotated_total"); n != 0 {
		t.Errorf("%v files rotated before the end", n)
	}
	d.Terminate()

	found, err := filepath.Glob(filepath.Join(archive, "*", "test.*-logger-1.log.zst"))
	if err != nil || len(found) != 1 {
		t.Fatalf("archived %q, %v", found, err)
	}
	f, err := os.Open(found[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	text, err := io.ReadAll(z)
	if err != nil || !strings.Contains(string(text), "\nhello\n#close") {
		t.Errorf("%q, %v", text, err)
	}
}

// The error about an unknown compression lists the known ones.
func TestArchiveCompressRefused(t *testing.T) {
	t.Parallel()
	status, _, stderr := runHere(t, nil, "logger", "--listen", anyPort, "--http", "", "--dir",
		t.TempDir(), "--archive-compress", "6")
	if status != 2 || !strings.Contains(stderr, "--archive-compress") ||
		!strings.Contains(stderr, "use gzip or zstd") {
		t.Errorf("exit status %d, standard error %q", status, stderr)
	}
}
