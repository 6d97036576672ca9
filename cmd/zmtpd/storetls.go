package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"zmtpd/cmd/zmtpd/daemon"
)

// certificate is the one with which clients of stores are served, and the authorities of theirs. A
// nil one stands for no TLS.
type certificate struct {
	flag          string // whose certificate it is, as in --store-http
	file, key, ca string // ca is empty if clients need no certificate
	log           *slog.Logger
	now           atomic.Pointer[tls.Config]
}

// newCertificate reads a certificate, and returns nil without files.
func newCertificate(flag, file, key, ca string, log *slog.Logger) (*certificate, error) {
	if ca != "" && file == "" {
		return nil, daemon.Usagef("%s-client-ca without %s-certificate: clients show certificates over "+
			"TLS only; give both", flag, flag)
	}
	if (file == "") != (key == "") {
		return nil, daemon.Usagef("%s-certificate and %s-key need each other: give both", flag, flag)
	}
	if file == "" {
		return nil, nil
	}
	c := &certificate{flag: flag, file: file, key: key, ca: ca, log: log}
	return c, c.read()
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.file, c.key)
	if err != nil {
		return fmt.Errorf("%s-certificate: %w", c.flag, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}}
	if c.ca != "" {
		if cfg.ClientCAs, err = readAuthorities(c.ca); err != nil {
			return fmt.Errorf("%s-client-ca: %w", c.flag, err)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c.now.Store(cfg)
	return nil
}

// reload reads the files again. If that fails, the certificate stays in use.
func (c *certificate) reload() {
	if c == nil {
		return
	}
	if err := c.read(); err != nil {
		c.log.Error("a certificate cannot be read; the one read before stays in use", "err", err)
	}
}

// config returns the configuration of a server, with the certificate of the moment, nil for no TLS.
func (c *certificate) config() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return c.now.Load(), nil
	}}
}

// readAuthorities reads certificates of authorities.
func readAuthorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, daemon.Usagef("%s has no certificate in PEM", file)
	}
	return pool, nil
}
