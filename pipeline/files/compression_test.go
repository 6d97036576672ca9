package files

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

func TestCompressionText(t *testing.T) {
	for text, want := range map[string]Compression{
		"none": {}, "gzip": {"gzip", 6}, "gzip:1": {"gzip", 1}, "gzip:9": {"gzip", 9},
		"zstd": {"zstd", 3}, "zstd:1": {"zstd", 1}, "zstd:22": {"zstd", 22},
	} {
		var got, again Compression
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%s: %+v is %q, which is %+v, %v", text, got, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"": "use gzip or zstd", "6": "use gzip or zstd", "lz4": "use gzip or zstd",
		"lz4:1": "use gzip or zstd", "GZIP": "use gzip or zstd",
		"none:1": "use gzip or zstd", ":3": "use gzip or zstd",
		"gzip:":   "must be a positive number",
		"gzip:0":  "must be a positive number",
		"zstd:-1": "must be a positive number", "zstd:x": "must be a positive number",
		"zstd:999": "must be a positive number",
		"gzip:10":  "use a level from 1 to 9", "zstd:23": "use a level from 1 to 22",
	} {
		got := Compression{"zstd", 7}
		if err := got.UnmarshalText([]byte(text)); err == nil ||
			!strings.Contains(err.Error(), want) || got != (Compression{"zstd", 7}) {
			t.Errorf("%q: %+v, %v; want an error with %q", text, got, err, want)
		}
	}
}

// Compressed data read back unchanged, with this package and with the codec's own tool, which also
// finds them intact.
func TestCompressionIsReversible(t *testing.T) {
	random := make([]byte, zstdWindow+zstdWindow/2)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	var log bytes.Buffer
	for i := range 50_000 {
		fmt.Fprintf(&log, "%d.%06d\tC%x\t10.0.%d.%d\t%d\n", 1_700_000_000+i/100,
			rand.IntN(1_000_000), random[i%1000:][:8], i%7, rand.IntN(256), rand.IntN(65536))
	}
	inputs := map[string][]byte{"empty": nil, "short": []byte("#close\n"), "log": log.Bytes(),
		"random": random, "part of a log": log.Bytes()[:300_000]}
	for _, codec := range codecs {
		tool, _ := exec.LookPath(codec.name)
		if tool == "" {
			t.Logf("there is no %s on this machine", codec.name)
		}
		for level := 1; level <= codec.most; level++ {
			for name, input := range inputs {
				if name != "short" && !slices.Contains([]int{1, 3, 6, 9, 10}, level) {
					continue // there is one of each codec
				}
				if name == "log" && level != codec.normal && !testkit.Nightly() {
					continue // takes seconds with the race detector
				}
				if name == "random" && codec.name == "gzip" {
					input = input[:300_000] // gzip looks back 32 KiB
				}
				t.Run(fmt.Sprintf("%s/%d/%s", codec.name, level, name), func(t *testing.T) {
					dir := t.TempDir()
					root, err := os.OpenRoot(dir)
					if err != nil {
						t.Fatal(err)
					}
					defer root.Close()
					if err := os.WriteFile(filepath.Join(dir, "in"), input, 0o666); err != nil {
						t.Fatal(err)
					}
					in, err := root.Open("in")
					if err != nil {
						t.Fatal(err)
					}
					defer in.Close()
					if err := copyFile(root, "out", in, Compression{codec.name, level},
						func(w io.Writer) io.Writer { return w }); err != nil {
						t.Fatal(err)
					}
					out, err := root.Open("out")
					if err != nil {
						t.Fatal(err)
					}
					defer out.Close()
					z, err := codec.newReader(out)
					if err != nil {
						t.Fatal(err)
					}
					defer z.Close()
					if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, input) {
						t.Errorf("%d bytes came out, %v; want %d", len(got), err, len(input))
					}
					if fi, err := out.Stat(); err != nil || strings.HasSuffix(name, "log") &&
						fi.Size() > int64(len(input))/2 {
						t.Errorf("compressed to %d of %d bytes, %v", fi.Size(), len(input), err)
					}
					if tool == "" {
						return
					}
					file := filepath.Join(dir, "out"+codec.ext)
					if err := os.Rename(filepath.Join(dir, "out"), file); err != nil {
						t.Fatal(err)
					}
					if got, err := exec.Command(tool, "-dc", file).Output(); err != nil ||
						!bytes.Equal(got, input) {
						t.Errorf("%d bytes came out of %s, %v; want %d", len(got), tool, err,
							len(input))
					}
					if said, err := exec.Command(tool, "-t", file).CombinedOutput(); err != nil {
						t.Errorf("%s -t: %s", tool, said)
					}
				})
			}
		}
	}
}

// A logger that wrote compressed logs in an earlier run, and now does not, leaves them unchanged.
func TestResumedGzipOfOtherOptions(t *testing.T) {
	dir := t.TempDir()
	work := filepath.Join(dir, workDir, "1700000000-1700003600")
	if err := os.MkdirAll(work, 0o777); err != nil {
		t.Fatal(err)
	}
	z, err := newGzipStream(6)
	if err != nil {
		t.Fatal(err)
	}
	z.add([]byte("#header\nrecord\n#close\n"), true)
	for _, name := range []string{"a.log.gz", "b.log.other"} {
		if err := os.WriteFile(filepath.Join(work, name), z.out.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cfg := archiving(dir, Compression{Name: "zstd"})
	shut(t, start(t, cfg))
	files := tree(t, filepath.Join(dir, "archive"))
	for _, name := range sortedKeys(files) {
		content := plain(t, files[name])
		if strings.HasSuffix(name, ".other.zst") {
			content = plain(t, content)
		}
		if content != "#header\nrecord\n#close\n" {
			t.Errorf("%s holds %q", name, content)
		}
	}
	if len(files) != 2 {
		t.Errorf("files %q", sortedKeys(files))
	}
}
