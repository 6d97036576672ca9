package jetstream

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	odd, err := event.Append(nil, savedEntry{Key: text("a"), Value: []byte{0xff}, Modified: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for title, c := range map[string]struct {
		config func(*jetstream.StreamConfig)
		data   map[string][]byte
		want   string
	}{
		"no record":       {nil, map[string][]byte{"hello": []byte("world")}, "no record"},
		"text as record":  {nil, map[string][]byte{recordKey: []byte("hello")}, "is not one of zmtpd"},
		"empty record":    {nil, map[string][]byte{recordKey: {}}, "is not one of zmtpd"},
		"other format":    {nil, map[string][]byte{recordKey: rec(func(r *record) { r.Format = "zmtpd store 2" })}, "its format"},
		"other key":       {nil, map[string][]byte{recordKey: good, "hello": []byte("x")}, `key "hello"`},
		"text as entry":   {nil, map[string][]byte{recordKey: good, name: []byte("hello")}, name},
		"another vector":  {nil, map[string][]byte{recordKey: good, name: wrong}, name},
		"value":           {nil, map[string][]byte{recordKey: good, name: odd}, "its value"},
		"another's entry": {nil, map[string][]byte{recordKey: good, name: entry("b", "v")}, "another key"},
		"lost journal":    {nil, map[string][]byte{recordKey: rec(func(r *record) { r.Journal, r.Parts = 7, 1<<60 })}, "part 0"},
		"odd journal":     {nil, map[string][]byte{recordKey: rec(func(r *record) { r.Journal, r.Parts = 7, 1 }), "j7.0": pack([]write{{recordKey, nil}}, 1000)[0]}, "part of a journal"},
		"history":         {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, nil, "5 values"},
		"age":             {func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, nil, "by age"},
		"no batches":      {func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, nil, "2.12"},
		"memory":          {func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, nil, "in memory"},
	} {
		t.Run(title, func(t *testing.T) {
			b := Backend{cfg: Config{Store: strings.ReplaceAll(strings.ReplaceAll(title, " ", "_"), "'", ""),
				URLs: []string{server.URL}, Replicas: 1}}
			b.bucket = "zmtpd_" + b.cfg.Store
			config := b.streamConfig()
			if c.config != nil {
				c.config(&config)
			}
			stream, err := js.CreateStream(t.Context(), config)
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
					t.Errorf("%s has changed: %+v, error %v, %d messages", key, m, err, info.State.Msgs)
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
	if e := s.Get(text(key)); s.Stats().Keys != 3 || e == nil || string(e.Value.Raw()) != string(text(most)) {
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

func fixed(text string) func() (string, error) { return func() (string, error) { return text, nil } }

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
	passwords := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "zmtpd", "secret" })
	tokens := natstest.Start(t, func(o *server.Options) { o.Authorization = "secret" })
	keys := natstest.Start(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} })
	small := natstest.Start(t, func(o *server.Options) { o.MaxPayload = 100_000 })
	plain := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	for name, c := range map[string]struct {
		cfg  Config
		want string // "" if it connects
	}{
		"password":       {Config{URLs: []string{passwords.URL}, User: "zmtpd", Password: fixed("secret")}, ""},
		"wrong password": {Config{URLs: []string{passwords.URL}, User: "zmtpd", Password: fixed("wrong")}, "Authorization"},
		"no password":    {Config{URLs: []string{passwords.URL}}, "Authorization"},
		"token":          {Config{URLs: []string{tokens.URL}, Token: fixed("secret")}, ""},
		"wrong token":    {Config{URLs: []string{tokens.URL}, Token: fixed("wrong")}, "Authorization"},
		"nkey":           {Config{URLs: []string{keys.URL}, NKeyFile: seedFile}, ""},
		"no nkey":        {Config{URLs: []string{keys.URL}, NKeyFile: seedFile + "x"}, "no such file"},
		"no creds":       {Config{URLs: []string{keys.URL}, CredentialsFile: seedFile + "x"}, "no such file"},
		"unreadable":     {Config{URLs: []string{tokens.URL}, Token: func() (string, error) { return "", os.ErrPermission }}, "permission"},
		"no JetStream":   {Config{URLs: []string{plain.URL}}, "jetstream {}"},
		"small messages": {Config{URLs: []string{small.URL}}, "max_payload"},
		"nobody":         {Config{URLs: []string{"nats://127.0.0.1:1"}}, "no servers"},
		"in the URL":     {Config{URLs: []string{"nats://zmtpd:secret@127.0.0.1:1"}}, "others could read"},
		"http":           {Config{URLs: []string{"http://127.0.0.1:1"}}, "none of nats, tls, ws, wss"},
		"no URL":         {Config{URLs: []string{"127.0.0.1"}}, "no URL"},
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
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) ||
				strings.Contains(err.Error(), "secret") || !errors.Is(err, store.CannotOpenFile)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
