package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"zmtpd/forwarder/store"
)

// Config configures a [Backend].
type Config struct {
	Store string // name of the store
	Sync  store.Sync
	// URLs are servers of one cluster of NATS, as in nats://10.0.0.1:4222 or tls://host:4222. They
	// must not have a user, a password or a token.
	URLs []string
	// Credentials, at most one of: a user with a password, a token, a credentials file (a JWT and
	// an nkey seed), the file of an nkey seed. The functions are called for each connection.
	User            string
	Password        func() (string, error)
	Token           func() (string, error)
	CredentialsFile string
	NKeyFile        string
	// PEM files: authorities that may sign the servers' certificates, and the certificate of this
	// process. CAFile turns TLS on, as tls:// in a URL does. Default: those of the system, none.
	CAFile, CertificateFile, KeyFile string

	Replicas int           // of a bucket that is made; default 1
	Timeout  time.Duration // how long a commit waits for its acknowledgement; default 5 s
	Who      string        // names this process to one that wants the same store

	// Lost is called, at most once, when another process has taken the store over. All commits fail
	// from then on. It must not call methods of the Backend.
	Lost func(error)

	Logger *slog.Logger // default: nothing is logged
}

// ownerSubject and the name of a bucket are the subject at which its owner answers that it is
// alive.
const ownerSubject = "zmtpd.master."

// askTimeout is how long another owner of a store has to answer that it is alive.
const askTimeout = 2 * time.Second

// minPayload is the smallest max_payload of a server that a store works with.
const minPayload = 256 << 10

// Open connects to NATS and opens the bucket of a store, and makes it if there is none. A bucket
// that is not one of a store is an error of the code [store.CannotOpenFile], and stays as it is.
// If another process has the store, the error is [store.MasterExists]. Open blocks for a few
// times Config.Timeout at most.
func Open(cfg Config) (*Backend, error) {
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	err := store.CheckName(cfg.Store)
	for _, u := range cfg.URLs {
		if err == nil {
			err = CheckURL(u)
		}
	}
	if err != nil {
		return nil, store.Errorf(store.CannotOpenFile, "%v", err)
	}
	b := &Backend{cfg: cfg, bucket: "zmtpd_" + cfg.Store, owner: rand.Text(),
		timeout: cfg.Timeout, repair: map[string]write{}}
	if err = b.connect(); err == nil {
		if err = b.open(); err != nil {
			b.nc.Close()
		}
	}
	if err == nil {
		return b, nil
	}
	if _, ok := errors.AsType[*store.Error](err); !ok {
		err = store.Errorf(store.CannotOpenFile, "%s: %v", strings.Join(cfg.URLs, ","), err)
	}
	return nil, err
}

// CheckURL checks the address of a server. The error never has a password in it.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return errors.New("this is no URL of a server of NATS, such as nats://10.0.0.1:4222")
	case u.User != nil:
		return errors.New("the URL has a user, a password or a token, which others could read; " +
			"give them in a file")
	case u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss":
		return fmt.Errorf("the scheme of %q is none of nats, tls, ws, wss", text)
	}
	return nil
}

func (b *Backend) connect() error {
	options := []nats.Option{
		nats.Name("zmtpd, store " + b.cfg.Store), nats.Timeout(b.cfg.Timeout),
		nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), // a batch must not be sent by halves: publish or fail
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.down.CompareAndSwap(0, time.Now().UnixNano())
			if err != nil { // nil: Close
				b.cfg.Logger.Warn("the connection to NATS is lost; writes wait for it",
					"store", b.cfg.Store, "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.down.Store(0)
			b.cfg.Logger.Info("connected to NATS again", "store", b.cfg.Store,
				"server", nc.ConnectedUrlRedacted())
			b.verify()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.complaint.Store(&err)
			b.cfg.Logger.Warn("NATS complains", "store", b.cfg.Store, "err", err)
		}),
	}
	credentials, err := b.cfg.credentials()
	if err != nil {
		return err
	}
	b.nc, err = nats.Connect(strings.Join(b.cfg.URLs, ","), append(options, credentials...)...)
	return err
}

// credentials returns the options for what proves who this process is.
func (c *Config) credentials() (options []nats.Option, err error) {
	read := func(f func() (string, error)) string {
		text, err := f()
		if err != nil {
			c.Logger.Error("the credentials for NATS cannot be read", "store", c.Store, "err", err)
		}
		return text
	}
	for _, f := range []func() (string, error){c.Password, c.Token} {
		if f == nil {
			continue
		}
		if _, err := f(); err != nil {
			return nil, err
		}
	}
	if c.Password != nil {
		options = append(options, nats.UserInfoHandler(func() (string, string) {
			return c.User, read(c.Password)
		}))
	}
	if c.Token != nil {
		options = append(options, nats.TokenHandler(func() string { return read(c.Token) }))
	}
	if c.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(c.CredentialsFile))
	}
	if c.NKeyFile != "" {
		option, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil {
			return nil, err
		}
		options = append(options, option)
	}
	if c.CAFile != "" {
		options = append(options, nats.RootCAs(c.CAFile))
	}
	if c.CertificateFile != "" {
		options = append(options, nats.ClientCert(c.CertificateFile, c.KeyFile))
	}
	return options, nil
}

// streamConfig returns the configuration of the bucket's stream: that of a key-value bucket, with
// atomic batches, and with messages that end by themselves, for deleted keys.
func (b *Backend) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + b.bucket, Description: "store " + b.cfg.Store + " of zmtpd",
		Subjects: []string{b.subject(">")}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew,
		Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas,
		AllowRollup: true, DenyDelete: true, AllowMsgTTL: true, AllowAtomicPublish: true,
	}
}

// checkStream returns why a stream cannot be the bucket of a store.
func (b *Backend) checkStream(c jetstream.StreamConfig) error {
	want := b.streamConfig()
	switch {
	case !c.AllowAtomicPublish:
		return errors.New("it has no atomic batches; they need a NATS server of version 2.12 or " +
			"later, and a bucket that zmtpd has made")
	case !c.AllowMsgTTL:
		return errors.New("its messages cannot have a time to live (allow_msg_ttl)")
	case c.MaxMsgsPerSubject != 1:
		return fmt.Errorf("it keeps %d values of a key instead of 1", c.MaxMsgsPerSubject)
	case c.MaxAge != 0 || c.MaxMsgs > 0 || c.Retention != want.Retention ||
		c.Discard != want.Discard:
		return errors.New("it removes entries by age, number or consumption")
	case len(c.Subjects) != 1 || c.Subjects[0] != want.Subjects[0] || c.Mirror != nil ||
		len(c.Sources) > 0 || c.SubjectTransform != nil:
		return errors.New("its messages come from elsewhere, or go elsewhere")
	case c.Storage != jetstream.FileStorage && b.cfg.Sync != store.Off:
		return errors.New("it is in memory, which only --store-sync off allows")
	}
	return nil
}

// subject returns the subject of a key of the bucket.
func (b *Backend) subject(key string) string { return "$KV." + b.bucket + "." + key }

func (b *Backend) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), b.cfg.Timeout)
}

// open opens the bucket and makes this process its owner.
func (b *Backend) open() (err error) {
	if b.js, err = jetstream.New(b.nc); err != nil {
		return err
	}
	if b.nc.MaxPayload() < minPayload {
		return fmt.Errorf("the server takes messages of %d bytes (max_payload), a store needs %d",
			b.nc.MaxPayload(), minPayload)
	}
	b.inbox = b.nc.NewInbox()
	if b.acks, err = b.nc.SubscribeSync(b.inbox + ".*"); err != nil {
		return err
	}
	ctx, cancel := b.context()
	defer cancel()
	b.stream, err = b.js.Stream(ctx, "KV_"+b.bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		b.stream, err = b.js.CreateStream(ctx, b.streamConfig())
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody else was faster
			b.stream, err = b.js.Stream(ctx, "KV_"+b.bucket)
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled),
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		return errors.New("the server has no JetStream, or this account may not use it: turn it " +
			"on in the server's configuration (jetstream {})")
	case err != nil:
		return fmt.Errorf("the bucket %s cannot be opened: %w", b.bucket, b.explain(err))
	}
	if err := b.checkStream(b.stream.CachedInfo().Config); err != nil {
		return fmt.Errorf("the bucket %s cannot keep a store: %w; it stays as it is", b.bucket, err)
	}
	if have := b.stream.CachedInfo().Config.Replicas; have < b.cfg.Replicas {
		b.cfg.Logger.Warn("the bucket of the store has fewer replicas than asked for; change it "+
			"with nats stream update --replicas", "store", b.cfg.Store, "stream", "KV_"+b.bucket,
			"replicas", have, "asked", b.cfg.Replicas)
	}
	old, err := b.take(ctx)
	if err != nil {
		return err
	}
	if err := b.finishJournal(old); err != nil {
		return fmt.Errorf("the bucket %s: a commit that was interrupted cannot be completed: %w",
			b.bucket, err)
	}
	b.collect()
	return nil
}

// take makes this process the owner of the bucket. It returns the record of the last owner.
//
// Two processes cannot both pass: each reads the record, then asks for a living owner, then
// answers to such questions, and only then replaces the record that it has read.
func (b *Backend) take(ctx context.Context) (old record, err error) {
	old.Generation, old.Last = 1, 1
	m, err := b.stream.GetLastMsgForSubject(ctx, b.subject(recordKey))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		info, err := b.stream.Info(ctx)
		if err != nil {
			return old, err
		}
		if info.State.Msgs > 0 {
			return old, fmt.Errorf("the bucket %s has %d messages and no record of zmtpd: it is "+
				"not one of a store; it stays as it is", b.bucket, info.State.Msgs)
		}
	case err != nil:
		return old, err
	default:
		if old, err = decodeRecord(m.Data); err != nil {
			return old, fmt.Errorf("the record %s of the bucket %s is not one of zmtpd: %w; it "+
				"stays as it is", recordKey, b.bucket, err)
		}
		b.rev = m.Sequence
	}
	answer, err := b.nc.Request(ownerSubject+b.bucket, nil, min(askTimeout, b.cfg.Timeout))
	switch {
	case err == nil:
		return old, store.Errorf(store.MasterExists,
			"another process (%.80q) has the store %s; end it first", answer.Data, b.cfg.Store)
	case errors.Is(err, nats.ErrTimeout):
		b.cfg.Logger.Warn("the process that has the store does not answer; it is replaced",
			"store", b.cfg.Store, "process", fmt.Sprintf("%.80q", old.Who))
	case !errors.Is(err, nats.ErrNoResponders):
		return old, b.explain(err)
	}
	if b.questions, err = b.nc.Subscribe(ownerSubject+b.bucket, b.asked); err != nil {
		return old, err
	}
	if err := b.nc.FlushTimeout(b.cfg.Timeout); err != nil {
		return old, b.explain(err)
	}
	b.current, b.last = old, old.Last
	if b.rev, err = b.send(nil, b.next(old)); isConflict(err) {
		return old, store.Errorf(store.MasterExists, "another process has just opened the store %s",
			b.cfg.Store)
	} else if err != nil {
		return old, fmt.Errorf("the bucket %s cannot be written to: %w", b.bucket, b.explain(err))
	}
	b.owned.Store(true)
	return old, b.nc.Publish(ownerSubject+b.bucket, nil) // the last owner looks at the record
}

// asked answers to a process that wants the store, and looks at the record when one has taken it.
func (b *Backend) asked(m *nats.Msg) {
	if m.Reply != "" {
		m.Respond([]byte(b.cfg.Who))
		return
	}
	if time.Since(b.verified) > 100*time.Millisecond { // others can send any number of these
		b.verify()
		b.verified = time.Now()
	}
}

// verify notices that another process has taken the store over.
func (b *Backend) verify() {
	if !b.owned.Load() {
		return
	}
	ctx, cancel := b.context()
	defer cancel()
	if m, err := b.stream.GetLastMsgForSubject(ctx, b.subject(recordKey)); err == nil {
		b.checkOwner(m)
	}
}

// checkOwner returns the record in a message. If another process has written it, the store is lost.
func (b *Backend) checkOwner(m *jetstream.RawStreamMsg) (record, error) {
	r, err := decodeRecord(m.Data)
	switch {
	case err != nil:
		err = fmt.Errorf("another program has changed the record of the bucket %s: %w", b.bucket,
			err)
	case r.Owner != b.owner:
		err = store.Errorf(store.MasterExists,
			"another process (%.80q) has taken the store %s over", r.Who, b.cfg.Store)
	default:
		return r, nil
	}
	b.lose(err)
	return r, err
}

func (b *Backend) lose(err error) {
	if !b.lost.CompareAndSwap(nil, &err) {
		return
	}
	b.questions.Unsubscribe()
	if b.cfg.Lost != nil {
		b.cfg.Lost(err)
	}
}

// finishJournal writes what the last owner has committed as a journal and not written out.
func (b *Backend) finishJournal(old record) error {
	if old.Journal == 0 {
		return nil
	}
	var all []write
	for part := range old.Parts {
		ctx, cancel := b.context()
		key := fmt.Sprint(journal(old.Journal), ".", part)
		m, err := b.stream.GetLastMsgForSubject(ctx, b.subject(key))
		cancel()
		if err != nil {
			return fmt.Errorf("part %d of %d of the journal: %w", part, old.Parts, err)
		}
		writes, err := unpack(m.Data)
		if err != nil {
			return err
		}
		all = append(all, writes...)
	}
	return b.writeOut(all, old)
}
