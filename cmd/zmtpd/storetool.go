package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/rest"
)

type storeCommand struct {
	Get   storeGetCommand   `cmd:"" help:"Print the value of a key."`
	Put   storePutCommand   `cmd:"" help:"Set the value of a key."`
	Erase storeEraseCommand `cmd:"" help:"Remove a key."`
	Keys  storeKeysCommand  `cmd:"" help:"Print the keys."`
	Watch storeWatchCommand `cmd:"" help:"Print changes as they are made, a line of JSON each."`
	Dump  storeDumpCommand  `cmd:"" help:"Print all entries, a line of JSON each."`
	Load  storeLoadCommand  `cmd:"" help:"Put the entries that dump has printed."`
}

// storeToolFlags are the flags of the tools for stores.
type storeToolFlags struct {
	URL         string `name:"url" default:"http://127.0.0.1:9324" help:"Where the stores are: --store-http of the daemon."`
	CA          string `name:"ca" placeholder:"FILE" help:"PEM file with the authorities that may have signed the certificate of --store-http. Default: those of the system."`
	Certificate string `placeholder:"FILE" help:"PEM file with a certificate to show, for --store-http-client-ca of the daemon."`
	Key         string `placeholder:"FILE" help:"PEM file with the key of --certificate."`
	TokenFile   string `placeholder:"FILE" help:"File with the token of a client in --store-clients."`
	Store       string `arg:"" help:"Name of the store."`
}

// call sends a request to a path below the store. The caller closes the body of the answer.
func (f *storeToolFlags) call(ctx context.Context, method, path string, body []byte) (*http.Response,
	error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(f.URL, "/")+"/v1/stores/"+
		url.PathEscape(f.Store)+path, bytes.NewReader(body))
	if err != nil {
		return nil, daemon.Usagef("--url: %w", err)
	}
	if f.TokenFile != "" {
		token, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	client, err := f.client()
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("--url %s: %w", f.URL, err)
	}
	if answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	var fault struct{ Detail string }
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if json.Unmarshal(text, &fault) != nil || fault.Detail == "" {
		fault.Detail = answer.Status
	}
	return nil, fmt.Errorf("store %s: %s", f.Store, fault.Detail)
}

// client returns the client of HTTP.
func (f *storeToolFlags) client() (*http.Client, error) {
	if (f.Certificate == "") != (f.Key == "") {
		return nil, daemon.Usagef("--certificate and --key need each other: give both")
	}
	if f.CA == "" && f.Key == "" {
		return http.DefaultClient, nil
	}
	cfg := &tls.Config{}
	var err error
	if f.CA != "" {
		if cfg.RootCAs, err = readAuthorities(f.CA); err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
	}
	if f.Key != "" {
		pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
		if err != nil {
			return nil, fmt.Errorf("--certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg
	return &http.Client{Transport: transport}, nil
}

// storeArgument reads a key or a value: with a type as in count:5, else a string.
func storeArgument(text string) (event.Raw, error) {
	if v, err := event.ParseArgument(text); err == nil {
		return store.Make(v)
	}
	return store.Text(text), nil
}

// keyPath returns the path of a key.
func keyPath(text string) (string, error) {
	key, err := storeArgument(text)
	return "/" + url.PathEscape(rest.KeyText(key)), err
}

type storeGetCommand struct {
	storeToolFlags
	Key  string `arg:"" help:"Key: a string, or a type and a value as in addr:10.0.0.1; see zmtpd publish."`
	JSON bool   `name:"json" help:"Print the whole entry as JSON: also its type, its expiry, who wrote it and when."`
}

// Run prints an entry.
func (c *storeGetCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	path, err := keyPath(c.Key)
	if err != nil {
		return err
	}
	answer, err := c.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || c.JSON {
		std.Out.Write(text)
		return err
	}
	var e rest.Entry
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	value, err := event.Parse(e.Raw)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.Out, "%s\n", event.AppendText(nil, value))
	return err
}

type storePutCommand struct {
	storeToolFlags
	Key    string          `arg:"" help:"Key: a string, or a type and a value as in addr:10.0.0.1; see zmtpd publish."`
	Value  string          `arg:"" help:"Value, in the same form."`
	TTL    daemon.Duration `name:"ttl" help:"Time after which the entry expires. 0: never."`
	Unique bool            `help:"Only if there is no entry with this key."`
}

// Run sets a value.
func (c *storePutCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	path, err := keyPath(c.Key)
	if err != nil {
		return err
	}
	value, err := storeArgument(c.Value)
	if err != nil {
		return err
	}
	body := rest.Write{Op: "put", Raw: value}
	if c.Unique {
		body.Op = "put_unique"
	}
	if c.TTL > 0 {
		body.TTL = time.Duration(c.TTL).String()
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer, err := c.call(ctx, http.MethodPatch, path, text)
	if err == nil {
		answer.Body.Close()
	}
	return err
}

type storeEraseCommand struct {
	storeToolFlags
	Key string `arg:"" help:"Key: a string, or a type and a value as in addr:10.0.0.1; see zmtpd publish."`
}

// Run removes an entry.
func (c *storeEraseCommand) Run(ctx context.Context) error {
	path, err := keyPath(c.Key)
	if err != nil {
		return err
	}
	answer, err := c.call(ctx, http.MethodDelete, path, nil)
	if err == nil {
		answer.Body.Close()
	}
	return err
}

// all calls f for each entry whose key begins with a prefix.
func (f *storeToolFlags) all(ctx context.Context, prefix string, each func(rest.Entry) error) error {
	for cursor := ""; ; {
		query := url.Values{"prefix": {prefix}, "cursor": {cursor}}
		answer, err := f.call(ctx, http.MethodGet, "?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		var page struct {
			Entries []rest.Entry
			Cursor  string
		}
		err = json.NewDecoder(answer.Body).Decode(&page)
		answer.Body.Close()
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if err := each(e); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == "" {
			return nil
		}
	}
}

type storeKeysCommand struct {
	storeToolFlags
	Prefix string `help:"Only strings with this prefix."`
}

// Run prints the keys.
func (c *storeKeysCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	return c.all(ctx, c.Prefix, func(e rest.Entry) error {
		_, err := fmt.Fprintln(std.Out, e.Key)
		return err
	})
}

type storeDumpCommand struct {
	storeToolFlags
	Prefix string `help:"Only keys that are strings with this prefix."`
}

// Run prints the entries.
func (c *storeDumpCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	out := json.NewEncoder(std.Out)
	out.SetEscapeHTML(false)
	return c.all(ctx, c.Prefix, func(e rest.Entry) error { return out.Encode(e) })
}

type storeLoadCommand struct {
	storeToolFlags
	Clear bool `help:"Remove all other entries first."`
}

// Help is shown by zmtpd store load --help.
func (storeLoadCommand) Help() string {
	return `Reads lines of JSON from standard input, as dump prints them. A line needs "key" and "value",
or "key_raw" and "raw", which win; "expires" is optional. Entries are put in batches of 500, each
of which is put whole or not at all.`
}

// Run puts entries.
func (c *storeLoadCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	var writes []rest.Write
	size := 0
	send := func() error {
		if len(writes) == 0 {
			return nil
		}
		text, err := json.Marshal(map[string]any{"writes": writes})
		if err != nil {
			return err
		}
		writes, size = writes[:0], 0
		answer, err := c.call(ctx, http.MethodPost, "", text)
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	if c.Clear {
		writes = append(writes, rest.Write{Op: "clear"})
	}
	in := json.NewDecoder(std.In)
	for n := 1; ; n++ {
		var e rest.Entry
		if err := in.Decode(&e); errors.Is(err, io.EOF) {
			return send()
		} else if err != nil {
			return fmt.Errorf("entry %d of standard input: %w", n, err)
		}
		writes = append(writes, e.Put())
		if size += len(e.Raw) + len(e.Value) + len(e.Key); len(writes) >= 500 || size > 4<<20 {
			if err := send(); err != nil {
				return fmt.Errorf("entries up to %d: %w", n, err)
			}
		}
	}
}

type storeWatchCommand struct {
	storeToolFlags
	Prefix string `help:"Only keys that are strings with this prefix."`
}

// Run prints changes.
func (c *storeWatchCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	answer, err := c.call(ctx, http.MethodGet, "?watch&prefix="+url.QueryEscape(c.Prefix), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	in := bufio.NewReader(answer.Body)
	failed := false
	for {
		line, err := in.ReadString('\n')
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("store %s: the watch has ended: %w", c.Store, err)
		}
		if strings.HasPrefix(line, "event: error") {
			failed = true
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && failed {
			return fmt.Errorf("store %s: %s", c.Store, strings.TrimSpace(data))
		} else if ok {
			if _, err := io.WriteString(std.Out, data); err != nil {
				return err
			}
		}
	}
}
