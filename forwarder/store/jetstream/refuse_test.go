package jetstream

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/jetstream/testdata/natstest"
)

// TestForeign: a bucket that zmtpd has not written, or that somebody else has written to, is
// refused with what is wrong, and stays as it is.
func TestForeign(t *testing.T) {
	server := natstest.Start(t, nil)
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(key, value string) []byte {
		return encodeEntry(&store.Entry{Key: text(key), Value: store.Whole(text(value))}).Data
	}
	rec := func(change func(*record)) []byte {
		r := record{Format: format, Generation: 1, Last: 1}
		change(&r)
		return r.encode()
	}
	good := rec(func(*record) {})
	name := "e1." + entryName(text("a"))
	wrong, err := event.Append(nil, event.Vector{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	odd, err := event.Append(nil, savedEntry{Key: text("a"), Value: []byte{0xff},
		Modified: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	type data = map[string][]byte
	none := func(*jetstream.StreamConfig) {}
	type config = jetstream.StreamConfig
	format2 := rec(func(r *record) { r.Format = "zmtpd store 2" })
	journaled := func(parts uint64) []byte {
		return rec(func(r *record) { r.Journal, r.Parts = 7, parts })
	}
	for title, c := range map[string]struct {
		config func(*config)
		data   data
		want   string
	}{
		"no record":      {none, data{"hello": []byte("world")}, "no record"},
		"text as record": {none, data{recordKey: []byte("hello")}, "is not one of zmtpd"},
		"empty record":   {none, data{recordKey: {}}, "is not one of zmtpd"},
		"other format":   {none, data{recordKey: format2}, "its format"},
		"other key":      {none, data{recordKey: good, "hello": []byte("x")}, `key "hello"`},
		"text as entry":  {none, data{recordKey: good, name: []byte("hello")}, name},
		"another vector": {none, data{recordKey: good, name: wrong}, name},
		"value":          {none, data{recordKey: good, name: odd}, "its value"},
		"other's entry":  {none, data{recordKey: good, name: entry("b", "v")}, "another key"},
		"lost journal":   {none, data{recordKey: journaled(1 << 60)}, "part 0"},
		"odd journal": {none, data{recordKey: journaled(1),
			"j7.0": pack([]write{{recordKey, nil}}, 1000)[0]}, "part of a journal"},
		"history":    {func(c *config) { c.MaxMsgsPerSubject = 5 }, nil, "5 values"},
		"age":        {func(c *config) { c.MaxAge = time.Hour }, nil, "by age"},
		"no batches": {func(c *config) { c.AllowAtomicPublish = false }, nil, "2.12"},
		"memory":     {func(c *config) { c.Storage = jetstream.MemoryStorage }, nil, "in memory"},
	} {
		t.Run(title, func(t *testing.T) {
			name := strings.NewReplacer(" ", "_", "'", "").Replace(title)
			b := Backend{cfg: Config{Store: name, URLs: []string{server.URL}, Replicas: 1}}
			b.bucket = "zmtpd_" + b.cfg.Store
			streamConfig := b.streamConfig()
			c.config(&streamConfig)
			stream, err := js.CreateStream(t.Context(), streamConfig)
			if err != nil {
				t.Fatal(err)
			}
			for key, data := range c.data {
				if _, err := js.Publish(t.Context(), b.subject(key), data); err != nil {
					t.Fatal(err)
				}
			}
			backend, err := Open(b.cfg)
			if err == nil {
				_, err = store.Open(store.Config{Name: "test", Backend: backend})
			}
			if !errors.Is(err, store.CannotOpenFile) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			info, err := stream.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for key, data := range c.data {
				m, err := stream.GetLastMsgForSubject(t.Context(), b.subject(key))
				if err != nil || key != recordKey && string(m.Data) != string(data) {
					t.Errorf("%s has changed: %+v, error %v, %d messages", key, m, err,
						info.State.Msgs)
				}
			}
		})
	}
}

// TestTooLarge: what a message of the server cannot hold is refused, and nothing else with it.
func TestTooLarge(t *testing.T) {
	server := natstest.Start(t, nil)
	s, b := open(t, Config{URLs: []string{server.URL}})
	if n := b.MaxValue(); n < 900_000 || n > 1<<20 {
		t.Errorf("a value may have %d bytes", n)
	}
	most := strings.Repeat("v", b.MaxValue()-16)
	key := strings.Repeat("k", 65_000)
	put(t, s, key, most)
	put(t, s, "a", "1")
	if err := tryPut(t, s, "a", most+strings.Repeat("v", 32)); !errors.Is(err, store.InvalidData) ||
		!strings.Contains(err.Error(), "are allowed") {
		t.Errorf("error %v", err)
	}
	// A store that was not told.
	changes := []store.Change{{Kind: store.Put, Entry: &store.Entry{Seq: 3, Key: text("a"),
		Value: store.Whole(text(strings.Repeat("v", 1<<20)))}}}
	if err := b.Commit(changes); err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("error %v", err)
	}
	put(t, s, "b", "2")
	s.Close()
	s, _ = open(t, Config{URLs: []string{server.URL}})
	if s.Stats().Keys != 3 || !has(s, key, most) {
		t.Errorf("%+v", s.Stats())
	}
}

// TestFull: a bucket that is full refuses writes and keeps what it has.
func TestFull(t *testing.T) {
	server := natstest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 })
	s, _ := open(t, Config{URLs: []string{server.URL}, Timeout: time.Second})
	value := strings.Repeat("v", 100_000)
	n := 0
	var err error
	for ; err == nil && n < 100; n++ {
		err = tryPut(t, s, string(rune('a'+n)), value)
	}
	if !errors.Is(err, store.BackendFailure) || n < 3 || n == 100 {
		t.Fatalf("error %v after %d", err, n)
	}
	s.Close()
	_, err = Open(Config{Store: "test", URLs: []string{server.URL}, Timeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "cannot be written to") {
		t.Errorf("error %v", err)
	}
	server.Stop()
	server.Options.JetStreamMaxStore = 10 << 20
	server.Restart(t)
	s, _ = open(t, Config{URLs: []string{server.URL}})
	// The server may complete the batch that it has refused when it has room.
	if st := s.Stats(); st.Keys != n-1 && st.Keys != n {
		t.Errorf("%d keys, %d were acknowledged", st.Keys, n-1)
	}
}

// TestPermissions: a user of NATS with the permissions that docs/stores.md names can do all; one
// without is told what lacks.
func TestPermissions(t *testing.T) {
	all := &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{"$JS.API.>", "$KV.zmtpd_test.>",
			"zmtpd.master.zmtpd_test", "_INBOX.>"}},
		Subscribe: &server.SubjectPermission{
			Allow: []string{"zmtpd.master.zmtpd_test", "_INBOX.>"}},
	}
	none := &server.Permissions{Subscribe: all.Subscribe, Publish: &server.SubjectPermission{
		Allow: []string{"$JS.API.>", "zmtpd.master.zmtpd_test", "_INBOX.>"}}}
	server := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "all", Password: "secret", Permissions: all},
			{Username: "none", Password: "secret", Permissions: none}}
	})
	cfg := Config{URLs: []string{server.URL}, User: "all", Password: fixed("secret"), Who: "host:1"}
	s, _ := open(t, cfg)
	put(t, s, "a", "1")
	if _, err := s.Apply(t.Context(), "", store.Write{Op: "clear"}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "2")
	cfg.Store = "test"
	if _, err := Open(cfg); !errors.Is(err, store.MasterExists) ||
		!strings.Contains(err.Error(), "host:1") {
		t.Errorf("error %v", err)
	}
	s.Close()
	s, _ = open(t, cfg)
	if !has(s, "a", "2") {
		t.Error("the entry is not there")
	}
	s.Close()
	cfg.User, cfg.Timeout = "none", time.Second
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "Permissions Violation") {
		t.Errorf("error %v", err)
	}
}

func fixed(text string) func() (string, error) {
	return func() (string, error) { return text, nil }
}

// TestConnect has the ways to connect, and how they fail.
func TestConnect(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	seedFile := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	passwords := natstest.Start(t, func(o *server.Options) {
		o.Username, o.Password = "zmtpd", "secret"
	})
	tokens := natstest.Start(t, func(o *server.Options) { o.Authorization = "secret" })
	keys := natstest.Start(t, func(o *server.Options) {
		o.Nkeys = []*server.NkeyUser{{Nkey: public}}
	})
	operated, good, bad := startOperated(t)
	web := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	defer web.Close()
	authority := filepath.Join(t.TempDir(), "authority")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}
	if err := os.WriteFile(authority, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	secure := natstest.Start(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: web.TLS.Certificates}
	})
	small := natstest.Start(t, func(o *server.Options) { o.MaxPayload = 100_000 })
	plain := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	at := func(url string) []string { return []string{url} }
	refused := func() (string, error) { return "", os.ErrPermission }
	in, secret, wrong := at(passwords.URL), fixed("secret"), fixed("wrong")
	for name, c := range map[string]struct {
		cfg  Config
		want string // "" if it connects
	}{
		"password":       {Config{URLs: in, User: "zmtpd", Password: secret}, ""},
		"wrong password": {Config{URLs: in, User: "zmtpd", Password: wrong}, "Authorization"},
		"no password":    {Config{URLs: in}, "Authorization"},
		"token":          {Config{URLs: at(tokens.URL), Token: secret}, ""},
		"wrong token":    {Config{URLs: at(tokens.URL), Token: wrong}, "Authorization"},
		"unreadable":     {Config{URLs: at(tokens.URL), Token: refused}, "permission"},
		"nkey":           {Config{URLs: at(keys.URL), NKeyFile: seedFile}, ""},
		"no nkey":        {Config{URLs: at(keys.URL), NKeyFile: seedFile + "x"}, "no such file"},
		"creds":          {Config{URLs: at(operated.URL), CredentialsFile: good}, ""},
		"wrong creds":    {Config{URLs: at(operated.URL), CredentialsFile: bad}, "Authorization"},
		"no creds":       {Config{URLs: at(keys.URL), CredentialsFile: "/x"}, "no such file"},
		"TLS":            {Config{URLs: at(secure.URL), CAFile: authority}, ""},
		"no authority":   {Config{URLs: at(secure.URL)}, "certificate"},
		"no JetStream":   {Config{URLs: at(plain.URL)}, "jetstream {}"},
		"small messages": {Config{URLs: at(small.URL)}, "max_payload"},
		"nobody":         {Config{URLs: at("nats://127.0.0.1:1")}, "no servers"},
		"in the URL":     {Config{URLs: at("nats://zmtpd:secret@127.0.0.1:1")}, "others could"},
		"http":           {Config{URLs: at("http://127.0.0.1:1")}, "none of nats, tls, ws, wss"},
		"no URL":         {Config{URLs: at("127.0.0.1")}, "no URL"},
		"a bad name":     {Config{Store: "a.b"}, "letters"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.cfg.Store == "" {
				c.cfg.Store = "test"
			}
			c.cfg.Timeout = 10 * time.Second
			b, err := Open(c.cfg)
			if err == nil {
				b.Close()
			}
			if err == nil && c.want == "" {
				return
			}
			if !errors.Is(err, store.CannotOpenFile) || c.want == "" ||
				!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// startOperated starts a server whose users show a JWT that their account has signed. It returns
// two credentials files: one of its account, and one of an account that it does not know.
func startOperated(t *testing.T) (s *natstest.Server, good, bad string) {
	t.Helper()
	pair := func(kp nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		public, err := kp.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return kp, public
	}
	operator, operatorKey := pair(nkeys.CreateOperator())
	accounts := &server.MemAccResolver{}
	account := func() (kp nkeys.KeyPair, public string) {
		kp, public = pair(nkeys.CreateAccount())
		claims := jwt.NewAccountClaims(public)
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1,
			Streams: -1, Consumer: -1}
		text, err := claims.Encode(operator)
		if err == nil {
			err = accounts.Store(public, text)
		}
		if err != nil {
			t.Fatal(err)
		}
		return kp, public
	}
	creds := func(account nkeys.KeyPair) (file string) {
		user, public := pair(nkeys.CreateUser())
		token, err := jwt.NewUserClaims(public).Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		seed, _ := user.Seed()
		text, err := jwt.FormatUserConfig(token, seed)
		if err == nil {
			file = filepath.Join(t.TempDir(), "zmtpd.creds")
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	ours, _ := account()
	// The system account holds no streams.
	_, system := pair(nkeys.CreateAccount())
	text, err := jwt.NewAccountClaims(system).Encode(operator)
	if err == nil {
		err = accounts.Store(system, text)
	}
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := pair(nkeys.CreateAccount())
	s = natstest.Start(t, func(o *server.Options) {
		o.TrustedKeys, o.AccountResolver, o.SystemAccount = []string{operatorKey}, accounts, system
	})
	return s, creds(ours), creds(stranger)
}
