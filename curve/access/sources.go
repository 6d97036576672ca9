package access

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"zmtpd/curve"
)

// Sources are where the keys of a server come from. At least one server key and one client must be there.
type Sources struct {
	// ServerPaths are certificate files with the server's secret key, or folders with files *.key_secret. All keys are good at
	// the same time, so that one can be replaced: at most [curve.MaxServerKeys].
	ServerPaths []string
	// ServerKeys are keys beside them.
	ServerKeys []curve.Secret
	// ClientPaths are certificate files of clients, or folders with files *.key.
	ClientPaths []string
	// Clients are clients beside them.
	Clients []*Client
}

const (
	publicSuffix = ".key"
	secretSuffix = ".key_secret"
)

// content is what Sources say at one time.
type content struct {
	server  []curve.Secret
	clients *list
}

// load reads everything. One fault is a fault of all: a list of which a part is missing must not count.
func (s *Sources) load() (*content, error) {
	c := &content{clients: &list{map[curve.Key]*Client{}, map[uint64]*Client{}, map[string]string{}}}
	c.server = append(c.server, s.ServerKeys...)
	if err := eachFile(s.ServerPaths, secretSuffix, func(path string) error {
		cert, err := curve.ReadCertificate(path)
		if err != nil {
			return err
		}
		if cert.Secret == nil {
			return fmt.Errorf("%s has no secret key: it is the file of a public key; the other one is called %s_secret", path, strings.TrimSuffix(path, "_secret"))
		}
		c.server = append(c.server, *cert.Secret)
		return nil
	}); err != nil {
		return nil, err
	}
	if len(c.server) == 0 || len(c.server) > curve.MaxServerKeys {
		return nil, fmt.Errorf("%d server keys in %s, want 1 to %d", len(c.server), strings.Join(s.ServerPaths, ", "), curve.MaxServerKeys)
	}
	for _, client := range s.Clients {
		if err := errors.Join(checkName(client.Name), c.clients.add(client, "client "+client.Name)); err != nil {
			return nil, err
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
	return c, err
}

// eachFile calls f for every file among paths, and for those in the folders among them whose names end in suffix, in the order of
// their names. Who may write to any of them could let himself in.
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
		entries, err := os.ReadDir(path)
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

func checkWritable(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o002 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%s can be written by everybody, who could let themselves in (mode %04o): chmod o-w %[1]s", path, mode)
	}
	return nil
}

// print is what a change of the files changes.
type print [sha256.Size]byte

// youngFile is how old a file must be for its time to tell that it has not been written again: the clock of a file system is
// coarse, and keys are all of the same size.
const youngFile = 2 * time.Second

// print returns the present state of the files. now is part of it while one of them is young.
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
			entries, err := os.ReadDir(path)
			if err != nil {
				note(path, nil, err)
			}
			for _, e := range entries {
				name := filepath.Join(path, e.Name())
				info, err := os.Stat(name) // of what a link leads to
				note(name, info, err)
			}
		}
	}
	return print(h.Sum(nil))
}
