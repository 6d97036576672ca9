package tool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode"
	"unicode/utf8"

	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
)

// Format is the form of messages in a file or on a terminal.
type Format string

const (
	// FormatText is a line for each message, with tabs between the parts. In a part, \t, \n, \r and
	// \\ stand for tab, line feed, carriage return and backslash, and \xNN stands for any byte.
	// Bytes that cannot be printed are written in this way.
	FormatText Format = "text"
	// FormatRaw is a line for each message, without escapes. An input line is one part; the parts
	// of a message are printed with tabs between them.
	FormatRaw Format = "raw"
	// FormatRecording is the form of package recording, which zmtpd replay reads.
	FormatRecording Format = "recording"
)

const formatHelp = `Formats. text: each line is a message with tabs between its parts; \t, \n, \r and \\
stand for tab, line feed, carriage return and backslash, \xNN for any other byte. raw: each line is
a message of one part, without escapes. recording: a binary form, which zmtpd replay sends.`

// maxLine bounds a line of input. It is the default limit of receivers on a message.
const maxLine = zmtp.DefaultMaxMessageSize

// messageReader reads messages until io.EOF.
type messageReader interface{ Next() (zmtp.Message, error) }

// newMessageReader returns a reader of the messages in r.
func newMessageReader(r io.Reader, f Format) messageReader {
	b := bufio.NewReaderSize(r, 64<<10)
	if f == FormatRecording {
		return recordingReader{recording.NewReader(b)}
	}
	return &lineReader{r: b, raw: f == FormatRaw}
}

type recordingReader struct{ r *recording.Reader }

func (r recordingReader) Next() (zmtp.Message, error) {
	parts, err := r.r.Next()
	if err != nil {
		return zmtp.Message{}, err
	}
	if len(parts) == 0 {
		return zmtp.Message{}, errors.New("a message without parts cannot be sent")
	}
	return zmtp.NewMessage(parts...), nil
}

// lineReader reads the formats text and raw.
type lineReader struct {
	r     *bufio.Reader
	raw   bool
	n     int // lines read
	buf   []byte
	parts [][]byte
}

func (l *lineReader) Next() (zmtp.Message, error) {
	line, err := l.line()
	if err != nil {
		return zmtp.Message{}, err
	}
	l.n++
	if l.raw {
		return zmtp.NewMessage(line), nil
	}
	if l.parts, err = parseText(l.parts[:0], line); err != nil {
		return zmtp.Message{}, fmt.Errorf("line %d: %w", l.n, err)
	}
	return zmtp.NewMessage(l.parts...), nil
}

// line returns the next line without its end, valid until the next call.
func (l *lineReader) line() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		piece, err := l.r.ReadSlice('\n')
		l.buf = append(l.buf, piece...)
		switch {
		case len(l.buf) > maxLine:
			return nil, fmt.Errorf("line %d has more than %d bytes, the limit of a message",
				l.n+1, maxLine)
		case err == nil:
			return l.buf[:len(l.buf)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(l.buf) > 0:
			return l.buf, nil
		default:
			return nil, err
		}
	}
}

// parseText appends the parts of a line in the format text to dst. They refer to line, which it
// overwrites.
func parseText(dst [][]byte, line []byte) ([][]byte, error) {
	start, end := 0, 0 // of the part, in the unescaped bytes
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch c {
		case '\t':
			dst = append(dst, line[start:end:end])
			start = end
			continue
		case '\\':
			var n int
			if c, n = unescape(line[i:]); n == 0 {
				return dst,
					fmt.Errorf(`byte %d: %.4q is none of \t \n \r \\ \xNN; write \\ for a backslash, or use --format raw`, i+1, line[i:])
			}
			i += n - 1
		}
		line[end] = c
		end++
	}
	return append(dst, line[start:end:end]), nil
}

// unescape returns the byte of the escape at the beginning of s, and the length of the escape, 0 if
// there is none.
func unescape(s []byte) (c byte, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '\\':
		return '\\', 2
	case 't':
		return '\t', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 'x':
		if len(s) >= 4 {
			if v, err := strconv.ParseUint(string(s[2:4]), 16, 8); err == nil {
				return byte(v), 4
			}
		}
	}
	return 0, 0
}

// appendText appends a message as a line in the format text.
func appendText(dst []byte, m zmtp.Message) []byte {
	first := true
	for part := range m.Parts() {
		if !first {
			dst = append(dst, '\t')
		}
		first = false
		dst = appendEscaped(dst, part)
	}
	return append(dst, '\n')
}

func appendEscaped(dst, part []byte) []byte {
	for len(part) > 0 {
		r, n := utf8.DecodeRune(part)
		switch {
		case r == '\\':
			dst = append(dst, `\\`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case unicode.IsPrint(r) && !(r == utf8.RuneError && n == 1):
			dst = append(dst, part[:n]...)
		default:
			for _, c := range part[:n] {
				dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			}
		}
		part = part[n:]
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// messageWriter writes messages to a buffer.
type messageWriter struct {
	w      *bufio.Writer
	format Format
	buf    []byte
	parts  [][]byte
}

// newMessageWriter returns a messageWriter whose buffer goes to w.
func newMessageWriter(w io.Writer, f Format) *messageWriter {
	return &messageWriter{w: bufio.NewWriterSize(w, 64<<10), format: f}
}

// Write appends one message to the buffer, which is written when it is full.
func (w *messageWriter) Write(m zmtp.Message) error {
	w.buf = w.buf[:0]
	switch w.format {
	case FormatRecording:
		w.parts = m.AppendParts(w.parts[:0])
		var err error
		if w.buf, err = recording.AppendMessage(w.buf, w.parts...); err != nil {
			return err
		}
	case FormatRaw:
		for part := range m.Parts() {
			w.buf = append(append(w.buf, part...), '\t')
		}
		w.buf[len(w.buf)-1] = '\n'
	case FormatText:
		w.buf = appendText(w.buf, m)
	}
	_, err := w.w.Write(w.buf)
	return err
}

// Flush writes the buffer.
func (w *messageWriter) Flush() error { return w.w.Flush() }
