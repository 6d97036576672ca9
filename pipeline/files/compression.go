package files

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression says how logs are compressed. The zero value is none.
type Compression struct {
	// Name is "gzip" or "zstd", empty for none.
	Name string
	// Level goes from fast to small: 1 to 9 for gzip, default 6; 1 to 22 for zstd, default 3. These
	// levels of zstd are the same: 1 and 2, 3 to 5, 6 to 9, and all from 10 on, which take five
	// times the memory (40 MB).
	Level int
}

// codec is a format of compression.
type codec struct {
	name, ext    string
	most, normal int // levels
	// newWriter compresses to w the content of a file with the properties in.
	newWriter func(w io.Writer, level int, in os.FileInfo) (io.WriteCloser, error)
	newReader func(r io.Reader) (io.ReadCloser, error)
}

// codecs are all formats.
var codecs = []codec{
	{"gzip", ".gz", gzip.BestCompression, 6, newGzipWriter, newGzipReader},
	{"zstd", ".zst", 22, 3, newZstdWriter, newZstdReader},
}

// codec returns the format of c, nil for none.
func (c Compression) codec() *codec {
	for i := range codecs {
		if codecs[i].name == c.Name {
			return &codecs[i]
		}
	}
	return nil
}

// withDefault returns c with a level, or an error if there is no such format or level.
func (c Compression) withDefault() (Compression, error) {
	if c == (Compression{}) {
		return c, nil
	}
	codec := c.codec()
	if codec == nil {
		return c, fmt.Errorf("compression %q: use gzip or zstd, "+
			"with an optional level as in zstd:3", c.Name)
	}
	if c.Level == 0 {
		c.Level = codec.normal
	}
	if c.Level < 1 || c.Level > codec.most {
		return c, fmt.Errorf("compression %s: use a level from 1 to %d", c, codec.most)
	}
	return c, nil
}

// memory returns what compression takes, in bytes.
func (c Compression) memory() int64 {
	switch {
	case c.Name == "zstd" && c.Level >= 10:
		return 41 << 20
	case c.Name == "zstd":
		return 9 << 20
	}
	return 2 << 20
}

// ext returns what compression adds to the name of a file.
func (c Compression) ext() string {
	if codec := c.codec(); codec != nil {
		return codec.ext
	}
	return ""
}

const noCompression = "none"

// String returns the form that UnmarshalText takes.
func (c Compression) String() string {
	switch {
	case c.Name == "":
		return noCompression
	case c.Level == 0:
		return c.Name
	}
	return c.Name + ":" + strconv.Itoa(c.Level)
}

// UnmarshalText parses "gzip", "gzip:9", "zstd", "zstd:19" or "none".
func (c *Compression) UnmarshalText(text []byte) error {
	if string(text) == noCompression {
		*c = Compression{}
		return nil
	}
	name, level, leveled := strings.Cut(string(text), ":")
	parsed := Compression{Name: name}
	if leveled {
		n, err := strconv.ParseUint(level, 10, 8)
		if err != nil || n == 0 {
			return fmt.Errorf("%q: the level must be a positive number, as in gzip:6 or zstd:3",
				text)
		}
		parsed.Level = int(n)
	}
	if name == "" {
		return fmt.Errorf("%q: use gzip or zstd, with an optional level as in zstd:3, or none",
			text)
	}
	parsed, err := parsed.withDefault()
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

// newGzipWriter uses klauspost's gzip: it takes less than half the CPU time of compress/gzip, which
// reads its output.
func newGzipWriter(w io.Writer, level int, in os.FileInfo) (io.WriteCloser, error) {
	z, err := kgzip.NewWriterLevel(w, level)
	if err == nil {
		z.ModTime = in.ModTime()
	}
	return z, err
}

func newGzipReader(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

// zstdWindow bounds how far back the compressor looks, and so the memory of both sides. A larger
// window gains less than a percent with logs. Every decoder accepts 8 MiB (RFC 8878, 3.1.1.1.2).
const zstdWindow = 2 << 20

func newZstdWriter(w io.Writer, level int, in os.FileInfo) (io.WriteCloser, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(zstdWindow), zstd.WithZeroFrames(true))
	if err == nil {
		z.ResetContentSize(w, in.Size()) // zstd -l shows it; any other size is an error
	}
	return z, err
}

func newZstdReader(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}
