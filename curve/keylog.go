package curve

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
)

// keyLogLabel begins a line of a key log. Behind it are the client's short-term public key C',
// which is in its HELLO, and the key under which both sides of the connection seal, that of C' with
// S', both in hexadecimal.
const keyLogLabel = "CURVE_SHARED"

// maxKeyLogKeys bounds the connections of a key log.
const maxKeyLogKeys = 1 << 20

// A KeyLog writes the keys of connections to a file, with which a capture of their packets can be
// decrypted, as SSLKEYLOGFILE does for TLS. Long-term keys are never in it: it tells nothing about
// connections of others, or of another time. It may be used by any number of goroutines.
type KeyLog struct {
	log *slog.Logger

	mu     sync.Mutex
	file   *os.File
	failed bool // an error was logged
}

// CreateKeyLog opens a file to append keys to, or makes it. Only its owner can read it; a file that
// others can read is refused. The first error in writing is logged, and has no effect on
// connections. log may be nil.
func CreateKeyLog(path string, log *slog.Logger) (*KeyLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		err = fmt.Errorf("%s is for keys, and others than its owner may read or change it "+
			"(mode %04o): chmod 600 %[1]s", path, info.Mode().Perm())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &KeyLog{file: f, log: log}, nil
}

// Close closes the file. Keys of later connections are not written.
func (l *KeyLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = true
	return l.file.Close()
}

// note writes the key of a connection. l may be nil.
func (l *KeyLog) note(client []byte, shared *boxKey) {
	if l == nil {
		return
	}
	line := fmt.Sprintf("%s %x %x\n", keyLogLabel, client, shared[:])
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.WriteString(line); err != nil && !l.failed {
		l.failed = true
		if l.log != nil {
			l.log.Warn("keys cannot be written to the key log; a capture cannot be decrypted",
				"error", err)
		}
	}
}

// A KeyLogFile finds keys in a file that a KeyLog writes. It reads on when a key is not there yet.
// It is not for concurrent use.
type KeyLogFile struct {
	file *os.File
	r    *bufio.Reader
	part string // the beginning of a line that is not whole yet
	keys map[Key][32]byte
	bad  int // lines that were not understood
}

// OpenKeyLog opens the file of a KeyLog and reads it.
func OpenKeyLog(path string) (*KeyLogFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l := &KeyLogFile{file: f, r: bufio.NewReader(f), keys: map[Key][32]byte{}}
	if err := l.read(); err != nil {
		f.Close()
		return nil, err
	}
	if len(l.keys) == 0 && l.bad > 0 {
		f.Close()
		return nil, fmt.Errorf("%s is no key log: it has no line that begins with %s", path,
			keyLogLabel)
	}
	return l, nil
}

// Close closes the file.
func (l *KeyLogFile) Close() error { return l.file.Close() }

// Find returns the key of a connection by the client's short-term public key.
func (l *KeyLogFile) Find(client Key) (shared [32]byte, ok bool) {
	if shared, ok = l.keys[client]; ok {
		return shared, true
	}
	if l.read() != nil {
		return shared, false
	}
	shared, ok = l.keys[client]
	return shared, ok
}

// read reads the lines that were appended.
func (l *KeyLogFile) read() error {
	for {
		text, err := l.r.ReadSlice('\n')
		if len(l.part)+len(text) > 4096 {
			return fmt.Errorf("%s is no key log: a line of more than 4096 bytes", l.file.Name())
		}
		l.part += string(text)
		if err == io.EOF {
			return nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		if err == nil {
			l.parse(l.part)
			l.part = ""
		}
	}
}

func (l *KeyLogFile) parse(line string) {
	fields := strings.Fields(line)
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return
	}
	if len(fields) == 3 && fields[0] == keyLogLabel && len(l.keys) < maxKeyLogKeys {
		client, err := hex.DecodeString(fields[1])
		shared, err2 := hex.DecodeString(fields[2])
		if err == nil && err2 == nil && len(client) == KeySize && len(shared) == KeySize {
			l.keys[Key(client)] = [32]byte(shared)
			return
		}
	}
	l.bad++
}
