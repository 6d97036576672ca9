package doctor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
)

// Stores is the configuration of a daemon's key-value stores.
type Stores struct {
	Files      []string // of the stores; a missing one is made
	Doors      []Door
	XSub, XPub string // endpoints of another process's broker, "" for none
	NATS       []string
	// NATSLogin: there are credentials for NATS. NATSTLS: there are authorities or a certificate.
	NATSLogin, NATSTLS bool
}

// Door is an address at which clients use stores.
type Door struct {
	Listener
	Encrypted, Guarded bool // with a certificate; with --store-clients
}

// sqliteMagic is how a database of SQLite begins (its file format, section 1.3).
const sqliteMagic = "SQLite format 3\x00"

// checkStores looks at the files of stores and at who may reach them.
func (d *doctor) checkStores() {
	if d.in.Daemon == nil {
		return
	}
	for _, path := range d.in.Daemon.Stores.Files {
		if err := checkStoreFile(path); err != nil {
			d.found.add("store-file", path, "%v", daemon.RootCause(err))
		}
	}
	for _, door := range d.in.Daemon.Stores.Doors {
		if isLoopback(door.Endpoint) {
			continue
		}
		if !door.Encrypted {
			d.found.add("store-open", door.Flag, "%s is not encrypted", door.Endpoint)
		}
		if !door.Guarded {
			d.found.add("store-open", door.Flag, "%s asks nobody for a token", door.Endpoint)
		}
	}
}

// checkStoreFile returns why the file of a store cannot be used, nil if it does not exist.
func checkStoreFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	begin := make([]byte, len(sqliteMagic))
	switch n, err := io.ReadFull(f, begin); {
	case errors.Is(err, io.EOF):
		return nil // SQLite takes an empty file for an empty database
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case string(begin[:n]) != sqliteMagic:
		return errors.New("it is no database of SQLite")
	}
	return nil
}

// maxInfo bounds the first line of a NATS server, in bytes.
const maxInfo = 64 << 10

// natsInfo is what a NATS server says of itself in its first line (NATS client protocol, INFO).
type natsInfo struct {
	Version      string `json:"version"`
	JetStream    bool   `json:"jetstream"`
	AuthRequired bool   `json:"auth_required"`
	TLSRequired  bool   `json:"tls_required"`
}

// checkNATS connects to the servers of --store-nats and reads their first line.
func (d *doctor) checkNATS(ctx context.Context) {
	if d.in.Daemon == nil {
		return
	}
	for _, text := range d.in.Daemon.Stores.NATS {
		u, err := url.Parse(text)
		if err != nil {
			continue // a fault of the configuration
		}
		d.found.examined("%s, --store-nats", u.Redacted())
		info, err := d.askNATS(ctx, u)
		if err != nil {
			d.found.add("nats-unreachable", u.Redacted(), "%v", daemon.RootCause(err))
			continue
		}
		if info == nil {
			continue // over WebSocket it says nothing by itself
		}
		for _, c := range []struct {
			wrong bool
			what  string
		}{
			{!info.JetStream, "it has no JetStream"},
			{tooOld(info.Version), "it is version " + info.Version + ", without atomic batches"},
			{info.AuthRequired && !d.in.Daemon.Stores.NATSLogin, "it demands credentials, and " +
				"there are none"},
			{info.TLSRequired && !d.in.Daemon.Stores.NATSTLS && u.Scheme != "tls", "it demands " +
				"TLS, and the URL is not tls://"},
		} {
			if c.wrong {
				d.found.add("nats-unsuitable", u.Redacted(), "%s", c.what)
			}
		}
	}
}

// tooOld reports whether a version of NATS is older than 2.12.
func tooOld(text string) bool {
	v, ok := version(text)
	return ok && (v[0] < 2 || v[0] == 2 && v[1] < 12)
}

// natsPorts are the ports of URLs without one.
var natsPorts = map[string]string{"ws": "80", "wss": "443"}

// askNATS returns what a server says of itself, nil if it only took the connection.
func (d *doctor) askNATS(ctx context.Context, u *url.URL) (*natsInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, d.in.Timeout)
	defer cancel()
	port, plain := u.Port(), natsPorts[u.Scheme] == ""
	if port == "" && plain {
		port = "4222"
	} else if port == "" {
		port = natsPorts[u.Scheme]
	}
	conn, err := d.in.Machine.Dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if !plain {
		return nil, nil
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	line, err := bufio.NewReader(io.LimitReader(conn, maxInfo)).ReadString('\n')
	text, isInfo := strings.CutPrefix(line, "INFO ")
	info := new(natsInfo)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("it says nothing within %v, as NATS would",
			d.in.Timeout.Round(time.Millisecond))
	case !isInfo || json.Unmarshal([]byte(text), info) != nil:
		return nil, errors.New("what listens there is no server of NATS")
	}
	return info, nil
}
