package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"zmtpd/pipeline"
)

// TLS configures the encryption of connections. The zero TLS trusts the certificate authorities of
// the system.
type TLS struct {
	// CAFile is a PEM file with the certificates of the authorities that are trusted in place of
	// the system's.
	CAFile string
	// CertFile and KeyFile are PEM files with the client's certificate and key, for brokers that
	// ask for them. They are read for each connection, so they can be renewed.
	CertFile, KeyFile string
	// ServerName is the name in the brokers' certificates, if it differs from the host in their
	// address.
	ServerName string
}

func (t *TLS) config() (*tls.Config, error) {
	config := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, &pipeline.ConfigError{Field: "TLS.CAFile", Err: err}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, configErrorf("TLS.CAFile", "%s has no certificate in PEM form", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, configErrorf("TLS.CertFile", "give both files, the certificate and its key")
	}
	if t.CertFile != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("client certificate: %w", err)
			}
			return &c, nil
		}
		if _, err := load(nil); err != nil {
			return nil, &pipeline.ConfigError{Field: "TLS.CertFile", Err: err}
		}
		config.GetClientCertificate = load
	}
	return config, nil
}

// SASL configures the authentication of the client.
type SASL struct {
	Mechanism      Mechanism // default ScramSHA512
	User, Password string
}

func (s *SASL) mechanism() (sasl.Mechanism, error) {
	if s.User == "" || s.Password == "" {
		return nil, configErrorf("SASL", "give both a user and a password")
	}
	switch s.Mechanism {
	case Plain:
		return plain.Auth{User: s.User, Pass: s.Password}.AsMechanism(), nil
	case ScramSHA256:
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism(), nil
	case ScramSHA512:
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism(), nil
	}
	return nil, configErrorf("SASL", "no such mechanism; use one of the Mechanism constants")
}
