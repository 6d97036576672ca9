package access

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// folder has a server key and a folder of clients.
type folder struct {
	t              *testing.T
	server, client string
}

func newFolder(t *testing.T) *folder {
	dir := t.TempDir()
	f := &folder{t, filepath.Join(dir, "server"), filepath.Join(dir, "clients")}
	for _, d := range []string{f.server, f.client} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.addServer("first")
	return f
}

func (f *folder) sources() Sources {
	return Sources{ServerPaths: []string{f.server}, ClientPaths: []string{f.client}}
}

func (f *folder) open() *Store {
	f.t.Helper()
	s, err := Open(f.sources(), curve.NewLimiter(0))
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *folder) addServer(name string) {
	f.t.Helper()
	public, secret := curve.GenerateKeyPair()
	c := curve.Certificate{Public: public, Secret: &secret}
	if err := c.WriteFiles(filepath.Join(f.server, name+".key"), time.Now()); err != nil {
		f.t.Fatal(err)
	}
}

// add writes the file of a client. metadata are name, value pairs.
func (f *folder) add(name string, metadata ...string) curve.Key {
	f.t.Helper()
	public, _ := curve.GenerateKeyPair()
	f.write(name, public, metadata...)
	return public
}

func (f *folder) write(name string, key curve.Key, metadata ...string) {
	f.t.Helper()
	c := curve.Certificate{Public: key}
	for pair := range slices.Chunk(metadata, 2) {
		c.Metadata = append(c.Metadata, curve.CertificateProperty{Name: pair[0], Value: pair[1]})
	}
	f.remove(name)
	if err := c.WriteFiles(filepath.Join(f.client, name+".key"), time.Now()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) remove(name string) {
	f.t.Helper()
	if err := os.RemoveAll(filepath.Join(f.client, name+".key")); err != nil {
		f.t.Fatal(err)
	}
}

// ask returns the reply for a key, and the metadata of the connection if it is admitted.
func ask(t *testing.T, s *Store, key curve.Key, domain string) (zap.Reply, wire.Metadata) {
	t.Helper()
	r, err := s.Authenticate(t.Context(), &zap.Request{Mechanism: "CURVE", Domain: domain,
		Credentials: [][]byte{key[:]}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.ParseMetadata(r.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	return r, append(wire.Metadata{{Name: zmtp.PropUserID, Value: []byte(r.UserID)}}, m...)
}

func TestClientsAreLetInByKey(t *testing.T) {
	f := newFolder(t)
	one := f.add("one")
	two := f.add("two", "name", "worker 2", "email", "somebody", "logs", "no", "publish", "a b.c",
		"subscribe", "")
	s := f.open()
	if r, m := ask(t, s, one, ""); r.Status != zap.StatusOK || r.UserID != "one" {
		t.Errorf("%+v", r)
	} else if c, err := s.Client(m); err != nil || c.Key != one || c.NoLogs || c.Publish != nil ||
		c.Subscribe != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if r, m := ask(t, s, two, "xsub"); r.Status != zap.StatusOK || r.UserID != "worker 2" {
		t.Errorf("%+v", r)
	} else if c, err := s.Client(m); err != nil || !c.NoLogs ||
		!slices.Equal(c.Publish, []string{"a", "b.c"}) || c.Subscribe == nil ||
		len(c.Subscribe) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	for name, r := range map[string]zap.Reply{
		"unknown key":     first(ask(t, s, curve.Key{1}, "")),
		"may not do logs": first(ask(t, s, two, DomainLogs)),
	} {
		if r.Status != zap.StatusDenied || r.UserID != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, req := range []zap.Request{
		{Mechanism: "NULL"}, {Mechanism: "PLAIN", Credentials: [][]byte{one[:]}},
		{Mechanism: "CURVE"},
		{Mechanism: "CURVE", Credentials: [][]byte{one[:31]}}, {Mechanism: "CURVE",
			Credentials: [][]byte{one[:], nil}},
	} {
		if r, err := s.Authenticate(t.Context(), &req); err != nil || r.Status != zap.StatusDenied {
			t.Errorf("%v: %+v %v", req, r, err)
		}
	}
	if c, err := s.Client(nil); err == nil {
		t.Errorf("a connection without metadata belongs to client %v", c)
	}
}

func first[A, B any](a A, _ B) A { return a }

func TestReload(t *testing.T) {
	f := newFolder(t)
	stays, goes, changes := f.add("stays"), f.add("goes"), f.add("changes")
	swapped := f.add("swapped")
	s := f.open()
	_, ofStays := ask(t, s, stays, "")
	_, ofGoes := ask(t, s, goes, "")
	_, ofChanges := ask(t, s, changes, "")
	_, ofSwapped := ask(t, s, swapped, "")

	f.remove("goes")
	f.write("changes", changes, "publish", "zeek.")
	f.add("swapped")
	late := f.add("late")
	f.addServer("second")
	c, err := s.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.Added, " ") != "late" || strings.Join(c.Removed, " ") != "goes" ||
		strings.Join(c.Changed, " ") != "changes swapped" || c.ServerKeys != 2 {
		t.Errorf("changed %+v", c)
	}
	if r, _ := ask(t, s, late, ""); r.Status != zap.StatusOK {
		t.Errorf("a new client: %+v", r)
	}
	if r, _ := ask(t, s, goes, ""); r.Status != zap.StatusDenied {
		t.Errorf("a removed client: %+v", r)
	}
	if client, err := s.Client(ofStays); err != nil || client.Name != "stays" {
		t.Errorf("an unchanged client: %v, %v", client, err)
	}
	for what, m := range map[string]wire.Metadata{"removed": ofGoes,
		"permissions of client changes have changed": ofChanges,
		"permissions of client swapped have changed": ofSwapped} {
		if client, err := s.Client(m); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v, %v", what, client, err)
		}
	}
	// A client that comes back is not the client that was removed.
	f.write("goes", goes)
	if _, err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client(ofGoes); err == nil {
		t.Error("a connection goes on although its key was removed meanwhile")
	}
	if c, err := s.Reload(); err != nil || !c.Empty() {
		t.Errorf("without a change: %+v, %v", c, err)
	}
	if st := s.Stats(); st.Clients != 5 || st.ServerKeys != 2 || st.Reloads != 3 ||
		st.Failures != 0 ||
		len(s.PublicKeys()) != 2 {
		t.Errorf("%+v", st)
	}
}

func TestReloadIfChanged(t *testing.T) {
	f := newFolder(t)
	f.add("one")
	old := time.Now().Add(-time.Hour)
	all, err := filepath.Glob(filepath.Join(filepath.Dir(f.client), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(files, dir) {
			if err := os.Chtimes(name, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := f.open()
	if _, err := s.ReloadIfChanged(); err != ErrUnchanged {
		t.Errorf("without a change: %v", err)
	}
	f.add("two")
	if c, err := s.ReloadIfChanged(); err != nil || len(c.Added) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	// the same size, and within the resolution of the file system's clock
	names := []string{f.client, filepath.Join(f.client, "two.key")}
	var times []time.Time
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, info.ModTime())
	}
	f.add("two")
	for i, name := range names {
		if err := os.Chtimes(name, times[i], times[i]); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := s.ReloadIfChanged(); err != nil || len(c.Changed) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestFaultsLeaveTheKeysAsTheyAre(t *testing.T) {
	key, _ := curve.GenerateKeyPair()
	for want, spoil := range map[string]func(f *folder){
		"no public-key": func(f *folder) {
			write(t, filepath.Join(f.client, "half.key"), "curve\n",
				0o600)
		},
		"has the name": func(f *folder) { f.add("a", "name", "one") },
		"same key as":  func(f *folder) { f.write("a", key) },
		"neither yes":  func(f *folder) { f.add("a", "logs", "maybe") },
		"given twice":  func(f *folder) { f.add("a", "publish", "a", "publish", "b") },
		"client name":  func(f *folder) { f.add("a", "name", strings.Repeat("n", 65)) },
		"server keys: 0 keys": func(f *folder) {
			os.Remove(filepath.Join(f.server, "first.key_secret"))
		},
		"more than 8 server": func(f *folder) {
			for _, name := range strings.Fields("2 3 4 5 6 7 8 9") {
				f.addServer(name)
			}
		},
		"has a public key only": func(f *folder) {
			f.write("a", curve.Key{7})
			os.Rename(filepath.Join(f.client, "a.key"), filepath.Join(f.server, "a.key_secret"))
		},
		"at most 256":  func(f *folder) { f.add("a", "publish", strings.Repeat("x ", 257)) },
		"no such file": func(f *folder) { os.RemoveAll(f.client) },
		"chmod 600": func(f *folder) {
			os.Chmod(filepath.Join(f.server, "first.key_secret"),
				0o644)
		},
		"chmod o-w": func(f *folder) { os.Chmod(f.client, 0o777) },
		"everybody can write": func(f *folder) {
			os.Chmod(filepath.Join(f.client, "one.key"),
				0o666)
		},
	} {
		t.Run(want, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.Contains(want, "chmod") {
				t.Skip("this system has no file modes")
			}
			f := newFolder(t)
			f.write("one", key)
			s := f.open()
			spoil(f)
			if c, err := s.Reload(); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("%+v, %v", c, err)
			}
			if r, _ := ask(t, s, key, ""); r.Status != zap.StatusOK {
				t.Errorf("the client is refused: %+v", r)
			}
			if st := s.Stats(); st.Failures != 1 || st.Clients != 1 || st.ServerKeys != 1 {
				t.Errorf("%+v", st)
			}
			if _, err := Open(f.sources(), curve.NewLimiter(0)); err == nil {
				t.Error("Open accepts such files")
			}
		})
	}
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// Files that are not key files are ignored, since editors and package managers leave files behind.
func TestOtherFilesInTheFolder(t *testing.T) {
	f := newFolder(t)
	f.add("one")
	write(t, filepath.Join(f.client, "README"), "x", 0o644)
	write(t, filepath.Join(f.client, ".one.key"), "x", 0o644)
	write(t, filepath.Join(f.client, "one.key~"), "x", 0o644)
	if st := f.open().Stats(); st.Clients != 1 {
		t.Errorf("%+v", st)
	}
}

// While both keys are there, clients with the old one and clients with the new one get in. Then
// only the new one is accepted.
func TestServerKeysChange(t *testing.T) {
	f := newFolder(t)
	clientPublic, clientSecret := curve.GenerateKeyPair()
	f.write("one", clientPublic)
	s := f.open()
	mechanism, err := s.Mechanism(zmtp.Auth{Handler: s})
	if err != nil {
		t.Fatal(err)
	}
	first := s.PublicKeys()[0]
	good := func(server curve.Key) bool {
		c, err := curve.NewClient(server, clientSecret)
		if err != nil {
			t.Fatal(err)
		}
		a, b := c.Mechanism(nil), mechanism(nil)
		hello, _, err := a.Handshake(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, n, err := wire.ParseHeader(hello)
		if err != nil {
			t.Fatal(err)
		}
		b.Handshake(nil, nil)
		_, _, err = b.Handshake(nil, hello[n:])
		return err == nil
	}
	if !good(first) {
		t.Fatal("the first key is not accepted")
	}
	f.addServer("second")
	if _, err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	both := s.PublicKeys()
	if len(both) != 2 || !good(both[0]) || !good(both[1]) {
		t.Fatalf("two keys: %v", both)
	}
	os.Remove(filepath.Join(f.server, "first.key_secret"))
	if _, err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if second := s.PublicKeys(); len(second) != 1 || second[0] == first || good(first) ||
		!good(second[0]) {
		t.Fatalf("the new key alone: %v", second)
	}
}

func (f *folder) removeServer(name string) {
	f.t.Helper()
	if err := os.Remove(filepath.Join(f.server, name+".key_secret")); err != nil {
		f.t.Fatal(err)
	}
}

// Folders and lists are bounded, whatever is in them.
func TestSourcesAreBounded(t *testing.T) {
	key, _ := curve.GenerateKeyPair()
	for want, fill := range map[string]func(f *folder){
		"more than 20000 files": func(f *folder) {
			for i := range maxFiles {
				write(t, filepath.Join(f.client, fmt.Sprintf("x%d", i)), "", 0o644)
			}
		},
		"more than 16777216 bytes": func(f *folder) {
			long := strings.Repeat("x", maxPrefixBytes/300)
			for i := range 301 {
				f.add(fmt.Sprintf("c%d", i), "publish", long)
			}
		},
	} {
		t.Run(want, func(t *testing.T) {
			f := newFolder(t)
			f.write("one", key)
			s := f.open()
			fill(f)
			if _, err := s.ReloadIfChanged(); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatal(err)
			}
			if r, _ := ask(t, s, key, ""); r.Status != zap.StatusOK {
				t.Errorf("the client is refused: %+v", r)
			}
		})
	}
}
