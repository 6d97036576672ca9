package curve

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
)

// A key log has lines of two kinds, with keys in hexadecimal. Other programs may write it, too.
// Lines that begin with # are comments.
//
//	CURVE_SHARED C' K      the client's short-term public key, which is in its HELLO, and the key
//	                       under which both sides seal: crypto_box_beforenm of C' and S'. A KeyLog
//	                       writes these.
//	CURVE_EPHEMERAL P p    a short-term key pair of either side, public key first: C' and c', or S'
//	                       and s'. To find S' in WELCOME, a KeyLogFile needs a key of the server.
const (
	keyLogShared    = "CURVE_SHARED"
	keyLogEphemeral = "CURVE_EPHEMERAL"
)

// A KeyLog writes the keys of connections to a file, with which a capture of their packets can be
// decrypted, as SSLKEYLOGFILE does for TLS. Long-term keys are never in it: it tells nothing about
// connections of others, or of another time. It may be used by any number of goroutines.
type KeyLog struct {
	log *slog.Logger

	mu     sync.Mutex
	file   *os.File
	failed bool // an error was logged
}

// CreateKeyLog opens a file to append keys to, or makes it. Only the user of the process can read
// it; a file that others own or can read is refused. The first error in writing is logged, and has
// no effect on connections. log may be nil.
func CreateKeyLog(path string, log *slog.Logger) (*KeyLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !ownFile(info) {
		err = fmt.Errorf("%s is for keys, and belongs to another user: choose another file", path)
	}
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
	line := fmt.Sprintf("%s %x %x\n", keyLogShared, client, shared[:])
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
