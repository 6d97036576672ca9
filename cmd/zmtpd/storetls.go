package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"

	"zmtpd/cmd/zmtpd/daemon"
)

// certificate is the one with which clients of stores are served. A nil one stands for no TLS.
type certificate struct {
	flag      string // whose certificate it is, as in --store-http
	file, key string
	log       *slog.Logger
	pair      atomic.Pointer[tls.Certificate]
}

// newCertificate reads a certificate, and returns nil without files.
func newCertificate(flag, file, key string, log *slog.Logger) (*certificate, error) {
	if (file == "") != (key == "") {
		return nil, daemon.Usagef("%s-certificate and %s-key need each other: give both", flag, flag)
	}
	if file == "" {
		return nil, nil
	}
	c := &certificate{flag: flag, file: file, key: key, log: log}
	return c, c.read()
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.file, c.key)
	if err != nil {
		return fmt.Errorf("%s-certificate: %w", c.flag, err)
	}
	c.pair.Store(&pair)
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
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return c.pair.Load(), nil
	}}
}
