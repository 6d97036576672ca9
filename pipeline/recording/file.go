package recording

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// File is a recording that grows. It always ends with a whole message, unless the process was
// killed in Append: then readers report the incomplete message, and OpenFile cuts it off. A File is
// not safe for concurrent use.
type File struct {
	f    *os.File
	size int64 // up to the end of the last whole message
	torn bool  // there may be more behind size
}

// OpenFile opens a recording for appending. It creates a missing file, readable by its owner only,
// since messages may be confidential. It reads the file once, cuts off an incomplete message at the
// end and returns its size in bytes. It refuses a file that is not regular or not a recording, and
// leaves it unchanged.
func OpenFile(name string) (f *File, cut int64, err error) {
	if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() {
		// opening a pipe would block
		return nil, 0, fmt.Errorf("recording: %s is not a regular file", name)
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("recording: %w", err)
	}
	f = &File{f: file}
	if f.size, cut, err = wholeSize(file); err != nil {
		file.Close()
		return nil, 0, fmt.Errorf("recording: %s: %w", name, err)
	}
	f.torn = cut > 0
	return f, cut, nil
}

// Size returns the size in bytes.
func (f *File) Size() int64 { return f.size }

// Append writes messages in the form of AppendMessage. It may block for the disk. After an error,
// such as a full disk, the file is unchanged, and the caller may retry.
func (f *File) Append(messages []byte) error {
	if err := f.mend(); err != nil {
		return err
	}
	f.torn = true
	n, err := f.f.WriteAt(messages, f.size)
	if err != nil {
		return errors.Join(fmt.Errorf("recording: %w", err), f.mend())
	}
	f.size += int64(n)
	f.torn = false
	return nil
}

// mend cuts off an incomplete message at the end.
func (f *File) mend() error {
	if !f.torn {
		return nil
	}
	if err := f.f.Truncate(f.size); err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	f.torn = false
	return nil
}

// Close closes the file.
func (f *File) Close() error { return errors.Join(f.mend(), f.f.Close()) }

// wholeSize returns the end of the last whole message in r and the number of bytes behind it. A
// message over the limits is an error: r is not a recording.
func wholeSize(r io.Reader) (size, rest int64, err error) {
	b := bufio.NewReaderSize(r, 256<<10)
	for {
		n, err := skip(b)
		if errors.Is(err, io.EOF) {
			return size, n, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("at offset %d: %w", size, err)
		}
		size += n
	}
}

// skip reads one message and returns the number of bytes read.
func skip(b *bufio.Reader) (n int64, err error) {
	number := func() (v uint32, err error) {
		var four [4]byte
		k, err := io.ReadFull(b, four[:])
		n += int64(k)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return binary.BigEndian.Uint32(four[:]), err
	}
	parts, err := number()
	if err != nil {
		return n, err
	}
	if parts > MaxParts {
		return n, fmt.Errorf("%w: %d parts, at most %d are allowed", ErrTooLarge, parts, MaxParts)
	}
	left := uint32(MaxMessageSize)
	for range parts {
		size, err := number()
		if err != nil {
			return n, err
		}
		if size > left {
			return n, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxMessageSize)
		}
		left -= size
		k, err := b.Discard(int(size))
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
