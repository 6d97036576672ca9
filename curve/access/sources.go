package access

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"zmtpd/curve"
)

// Sources say where a server's keys come from. There must be at least one server key. Files and
// lists are bounded: at most [curve.MaxServerKeys] server keys, 10,000 clients, 20,000 files in a
// folder, and 16 MiB of topic prefixes.
type Sources struct {
	// ServerPaths are certificate files with a secret key of the server, or folders with such files
	// named *.key_secret. Clients may know any of the keys, so that one can be replaced.
	ServerPaths []string
	// ServerKeys are further secret keys of the server.
	ServerKeys []curve.Secret
	// ClientPaths are certificate files of clients, or folders with files *.key.
	ClientPaths []string
	// Clients are further clients.
	Clients []*Client
	// KeyLog gets the keys of connections. Default: none.
	KeyLog *curve.KeyLog
}

const (
	publicSuffix = ".key"
	secretSuffix = ".key_secret"
)

// maxFiles bounds the entries of a folder.
const maxFiles = 2 * maxClients

// content is what the Sources contained when they were read.
type content struct {
	server  []curve.Secret
	clients *list
}

// SourceError is an error in a source of keys.
type SourceError struct {
	Server bool // of server keys, not of clients' keys
	Err    error
}

func (e *SourceError) Error() string {
	if e.Server {
		return "server keys: " + e.Err.Error()
	}
	return "clients' keys: " + e.Err.Error()
}

func (e *SourceError) Unwrap() error { return e.Err }

// load reads all sources. A fault in one of them is an error, since an incomplete list must not
// take effect. Every error is a [*SourceError].
func (s *Sources) load() (*content, error) {
	c := &content{clients: &list{
		byKey: map[curve.Key]*Client{}, byID: map[uint64]*Client{}, byName: map[string]string{},
	}}
	c.server = append(c.server, s.ServerKeys...)
	if err := eachFile(s.ServerPaths, secretSuffix, func(path string) error {
		cert, err := curve.ReadCertificate(path)
		if err != nil {
			return err
		}
		if cert.Secret == nil {
			return fmt.Errorf("%s has a public key only; the file with both keys is called "+
				"%s_secret", path, strings.TrimSuffix(path, "_secret"))
		}
		if len(c.server) == curve.MaxServerKeys {
			return fmt.Errorf("%s: more than %d server keys; remove old ones", path,
				curve.MaxServerKeys)
		}
		c.server = append(c.server, *cert.Secret)
		return nil
	}); err != nil {
		return nil, &SourceError{Server: true, Err: err}
	}
	if len(c.server) == 0 || len(c.server) > curve.MaxServerKeys {
		return nil, &SourceError{Server: true, Err: fmt.Errorf("%d keys in %s, want 1 to %d",
			len(c.server), strings.Join(s.ServerPaths, ", "), curve.MaxServerKeys)}
	}
	for _, client := range s.Clients {
		err := errors.Join(CheckName(client.Name), c.clients.add(client, "client "+client.Name))
		if err != nil {
			return nil, &SourceError{Err: err}
		}
	}
	err := eachFile(s.ClientPaths, publicSuffix, func(path string) error {
		cert, err := curve.ReadCertificate(path)
		if err != nil {
			return err
		}
		client, err := newClient(&cert, strings.TrimSuffix(filepath.Base(path), publicSuffix))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return c.clients.add(client, path)
	})
	if err != nil {
		return nil, &SourceError{Err: err}
	}
	return c, nil
}

// eachFile calls f for each file in paths, and for each file in a folder in paths whose name ends
// in suffix, in the order of their names. It refuses files and folders that everybody may write to.
func eachFile(paths []string, suffix string, f func(path string) error) error {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if err := checkWritable(path, info); err != nil {
			return err
		}
		if !info.IsDir() {
			if err := f(path); err != nil {
				return err
			}
			continue
		}
		entries, err := readDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), suffix) {
				continue
			}
			name := filepath.Join(path, e.Name())
			if info, err = os.Stat(name); err == nil {
				err = checkWritable(name, info)
			}
			if err == nil {
				err = f(name)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// readDir is os.ReadDir for a folder of at most maxFiles entries.
func readDir(path string) ([]fs.DirEntry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(maxFiles + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(entries) > maxFiles {
		return nil, fmt.Errorf("%s has more than %d files: give keys a folder of their own", path,
			maxFiles)
	}
	slices.SortFunc(entries, func(a,
		b fs.DirEntry) int {
		return strings.Compare(a.Name(), b.Name())
	})
	return entries, nil
}

func checkWritable(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o002 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%s has mode %04o, so that everybody can write to it and add clients; "+
			"run chmod o-w %[1]s", path, mode)
	}
	return nil
}

// print is a fingerprint of the files' names, sizes, modes and times.
type print [sha256.Size]byte

// youngFile is the age up to which a file may have been written again without a change of its time
// or size: the clock of a file system is coarse, and all keys have the same size.
const youngFile = 2 * time.Second

// print returns the fingerprint. now is part of it while one of the files is young.
func (s *Sources) print(now time.Time) print {
	h := sha256.New()
	note := func(path string, info fs.FileInfo, err error) {
		if err != nil {
			fmt.Fprintf(h, "%q %v\n", path, err)
			return
		}
		fmt.Fprintf(h, "%q %d %v %v\n", path, info.Size(), info.Mode(), info.ModTime().UnixNano())
		if now.Sub(info.ModTime()).Abs() < youngFile {
			fmt.Fprintf(h, "%d\n", now.UnixNano())
		}
	}
	for _, paths := range [][]string{s.ServerPaths, s.ClientPaths} {
		for _, path := range paths {
			info, err := os.Stat(path)
			note(path, info, err)
			if err != nil || !info.IsDir() {
				continue
			}
			entries, err := readDir(path)
			if err != nil {
				note(path, nil, err)
			}
			for _, e := range entries {
				name := filepath.Join(path, e.Name())
				info, err := os.Stat(name) // follows links
				note(name, info, err)
			}
		}
	}
	return print(h.Sum(nil))
}
