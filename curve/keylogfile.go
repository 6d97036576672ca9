package curve

import (
	"bufio"
	"crypto/ecdh"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	// maxKeyLogKeys bounds the connections of a key log.
	maxKeyLogKeys = 1 << 20
	// maxKeyLogLine bounds a line of a key log in bytes.
	maxKeyLogLine = 4096
)

// A KeyLogFile finds keys in a file that a KeyLog writes. It reads on when a key is not there yet.
// It is not for concurrent use.
type KeyLogFile struct {
	file *os.File
	r    *bufio.Reader
	part string           // the beginning of a line that is not whole yet
	keys map[Key][32]byte // of connections, by C'
	// short-term secret keys, by their public keys
	ephemeral map[Key]*ecdh.PrivateKey
	servers   []Key              // long-term public keys
	secrets   []*ecdh.PrivateKey // those of servers
	bad       int                // lines that were not understood
}

// OpenKeyLog opens the file of a KeyLog and reads it.
func OpenKeyLog(path string) (*KeyLogFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l := &KeyLogFile{file: f, r: bufio.NewReader(f), keys: map[Key][32]byte{},
		ephemeral: map[Key]*ecdh.PrivateKey{}}
	if err := l.read(); err != nil {
		f.Close()
		return nil, err
	}
	if len(l.keys)+len(l.ephemeral) == 0 && l.bad > 0 {
		f.Close()
		return nil, fmt.Errorf("%s is no key log: it has no line that begins with %s or %s", path,
			keyLogShared, keyLogEphemeral)
	}
	return l, nil
}

// Close closes the file.
func (l *KeyLogFile) Close() error { return l.file.Close() }

// AddServer adds the public key of a server, for connections whose client's short-term keys are in
// the log.
func (l *KeyLogFile) AddServer(public Key) { l.servers = append(l.servers, public) }

// AddServerSecret adds the secret key of a server, for connections of which the short-term keys of
// either side are in the log.
func (l *KeyLogFile) AddServerSecret(secret Secret) {
	l.AddServer(secret.Public())
	l.secrets = append(l.secrets, privateKey(secret[:]))
}

// Find returns the key of a connection, under which both sides seal. client is the client's
// short-term public key, which is in HELLO. welcome is what follows the name in WELCOME, or nil if
// that is not known; then the log must have the key itself.
func (l *KeyLogFile) Find(client Key, welcome []byte) (shared [32]byte, ok bool) {
	if shared, ok = l.find(client, welcome); ok || l.read() != nil {
		return shared, ok
	}
	return l.find(client, welcome)
}

func (l *KeyLogFile) find(client Key, welcome []byte) (shared [32]byte, ok bool) {
	if shared, ok = l.keys[client]; ok || len(welcome) != welcomeSize-len(cmdWelcome) {
		return shared, ok
	}
	own := l.ephemeral[client] // c', if the log has it
	server, ok := l.openWelcome(client, own, welcome)
	if !ok {
		return shared, false
	}
	secret, public := own, server
	if own == nil {
		secret, public = l.ephemeral[server], client
	}
	if secret == nil {
		return shared, false
	}
	k, err := newBoxKey(secret, public[:])
	if err != nil {
		return shared, false
	}
	l.keys[client] = *k
	return *k, true
}

// openWelcome returns S', which the server has sealed for C' with s. It can be opened with s and
// C', or with S and c'.
func (l *KeyLogFile) openWelcome(client Key, own *ecdh.PrivateKey, welcome []byte) (Key, bool) {
	open := func(secret *ecdh.PrivateKey, public Key) (Key, bool) {
		k, err := newBoxKey(secret, public[:])
		if err != nil {
			return Key{}, false
		}
		text, ok := k.open(nonceWelcome, welcome[:longNonce], welcome[longNonce:])
		if !ok {
			return Key{}, false
		}
		return Key(text), true
	}
	for _, secret := range l.secrets {
		if server, ok := open(secret, client); ok {
			return server, true
		}
	}
	if own == nil {
		return Key{}, false
	}
	for _, public := range l.servers {
		if server, ok := open(own, public); ok {
			return server, true
		}
	}
	return Key{}, false
}

// read reads the lines that were appended.
func (l *KeyLogFile) read() error {
	for {
		text, err := l.r.ReadSlice('\n')
		if len(l.part)+len(text) > maxKeyLogLine {
			return fmt.Errorf("%s is no key log: a line of more than %d bytes", l.file.Name(),
				maxKeyLogLine)
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
	if len(fields) == 3 && len(l.keys)+len(l.ephemeral) < maxKeyLogKeys {
		public, err := hex.DecodeString(fields[1])
		secret, err2 := hex.DecodeString(fields[2])
		if err == nil && err2 == nil && len(public) == KeySize && len(secret) == KeySize {
			switch fields[0] {
			case keyLogShared:
				l.keys[Key(public)] = [32]byte(secret)
				return
			case keyLogEphemeral:
				l.ephemeral[Key(public)] = privateKey(secret)
				return
			}
		}
	}
	l.bad++
}
