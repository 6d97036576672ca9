package zeekkeys

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/curve/access"
)

// environ returns the variables that lines of exports set.
func environ(t *testing.T, exports []byte) Variables {
	t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(string(exports)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "='")
		value, quoted := strings.CutSuffix(value, "'\n")
		if !ok || !quoted {
			t.Fatalf("not an export: %q", line)
		}
		values[name] = value
	}
	return Read(func(name string) string { return values[name] })
}

func TestExportsReadBackAsTheSameKeys(t *testing.T) {
	k := Generate()
	v := environ(t, k.AppendExports(nil))
	server, client, err := v.Server()
	if err != nil || server != k.Server || client != k.Client.Public() {
		t.Errorf("the server's keys differ, error %v", err)
	}
	serverKey, clientSecret, err := v.Client()
	if err != nil || serverKey != k.Server.Public() || clientSecret != k.Client {
		t.Errorf("the client's keys differ, error %v", err)
	}
}

// The variables of a recorded Zeek cluster.
func TestZeeksOwnVariables(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "testdata", "zeek.env"))
	if err != nil {
		t.Fatal(err)
	}
	v := environ(t, text)
	if _, _, err := v.Server(); err != nil {
		t.Error(err)
	}
	if _, _, err := v.Client(); err != nil {
		t.Error(err)
	}
}

func TestIncompleteVariablesAreRefused(t *testing.T) {
	all := environ(t, Generate().AppendExports(nil))
	other := environ(t, Generate().AppendExports(nil))
	with := func(change func(Variables)) Variables {
		v := maps.Clone(all)
		change(v)
		return v
	}
	for what, c := range map[string]struct {
		v              Variables
		server, client string // parts of the errors, empty for none
	}{
		"none": {Variables{}, ServerSecret + " is not set", ServerPublic + " is not set"},
		"no server secret": {with(func(v Variables) { delete(v, ServerSecret) }),
			"not " + ServerSecret, ""},
		"no server public": {with(func(v Variables) { delete(v, ServerPublic) }),
			"", "not " + ServerPublic},
		"no client public": {with(func(v Variables) { delete(v, ClientPublic) }),
			"not " + ClientPublic, "not " + ClientPublic},
		"no client secret": {with(func(v Variables) { delete(v, ClientSecret) }),
			"", "not " + ClientSecret},
		"pairs mixed up": {with(func(v Variables) {
			v[ServerPublic], v[ClientPublic] = other[ServerPublic], other[ClientPublic]
		}), "not a pair", "not a pair"},
		"short keys": {with(func(v Variables) { v[ServerSecret], v[ServerPublic] = "x", "y" }),
			ServerSecret + ": CURVE secret key", ServerPublic + ": CURVE public key"},
	} {
		_, _, server := c.v.Server()
		_, _, client := c.v.Client()
		for side, got := range map[string]error{"server": server, "client": client} {
			want := map[string]string{"server": c.server, "client": c.client}[side]
			if (got == nil) != (want == "") || got != nil && !strings.Contains(got.Error(), want) {
				t.Errorf("%s, %s: error %v, want one with %q", what, side, got, want)
			}
			if got != nil && strings.Contains(got.Error(), all[ServerSecret]) {
				t.Errorf("%s: the error has a secret key: %v", what, got)
			}
		}
	}
}

// The server's folders open as an access.Store that admits the client, the tools' files are a
// client's keys, and only the server's folder has the server's secret key.
func TestFolderHasKeysForAllParts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on", "the way")
	k := Generate()
	f, err := k.WriteFolder(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store, err := access.Open(access.Sources{
		ServerPaths: []string{f.Server}, ClientPaths: []string{f.Clients},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if keys := store.PublicKeys(); len(keys) != 1 || keys[0] != k.Server.Public() ||
		store.Stats().Clients != 1 {
		t.Errorf("the store has server keys %v and %d clients", keys, store.Stats().Clients)
	}
	server, err := curve.ReadCertificate(f.ToolServer)
	if err != nil || server.Public != k.Server.Public() || server.Secret != nil {
		t.Errorf("server key of tools: %v, error %v", server.Public, err)
	}
	client, err := curve.ReadCertificate(f.ToolClient)
	if err != nil || client.Secret == nil || *client.Secret != k.Client {
		t.Errorf("client key of tools: error %v", err)
	}
	exports, err := os.ReadFile(f.Exports)
	if err != nil {
		t.Fatal(err)
	}
	if _, secret, err := environ(t, exports).Client(); err != nil || secret != k.Client {
		t.Errorf("variables of nodes: error %v", err)
	}
	text, err := os.ReadFile(f.Script)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{k.Server.Public().String(), k.Client.Public().String(),
		k.Client.Text()} {
		if !bytes.Contains(text, []byte(`"`+key+`";`)) {
			t.Errorf("the script lacks a key:\n%s", text)
		}
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, mode)
		}
		if e.IsDir() {
			return nil
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(k.Server.Text())) && filepath.Dir(path) != f.Server {
			t.Errorf("%s has the server's secret key", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestExistingFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Generate().WriteFolder(dir, time.Now()); !errors.Is(err, os.ErrExist) ||
		!strings.Contains(err.Error(), "name a folder that does not exist") {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%d files were written", len(left))
	}
}
