package main

import (
	"fmt"
	"os"
	"strings"

	"zmtpd/curve"
)

// zeekVariables is how the names of Zeek's four variables with CURVE keys begin.
const zeekVariables = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_"

// The ends of their names.
const (
	zeekServerPublic = "SERVER_PUBLICKEY"
	zeekServerSecret = "SERVER_SECRETKEY"
	zeekClientPublic = "CLIENT_PUBLICKEY"
	zeekClientSecret = "CLIENT_SECRETKEY"
)

// zeekKeys are the keys in Zeek's variables, by the end of the name. An empty variable is as good as none.
type zeekKeys map[string]string

func readZeekKeys() zeekKeys {
	k := zeekKeys{}
	for _, end := range []string{zeekServerPublic, zeekServerSecret, zeekClientPublic, zeekClientSecret} {
		if v := os.Getenv(zeekVariables + end); v != "" {
			k[end] = v
		}
	}
	return k
}

// names lists the variables that are set.
func (k zeekKeys) names() string {
	var all []string
	for _, end := range []string{zeekServerPublic, zeekServerSecret, zeekClientPublic, zeekClientSecret} {
		if k[end] != "" {
			all = append(all, zeekVariables+end)
		}
	}
	return strings.Join(all, ", ")
}

// public returns a public key, which is one of those wanted.
func (k zeekKeys) public(end string) (curve.Key, error) {
	if k[end] == "" {
		return curve.Key{}, k.missing(end)
	}
	key, err := curve.ParseKey([]byte(k[end]))
	if err != nil {
		return key, usagef("%s%s: %w", zeekVariables, end, err)
	}
	return key, nil
}

// secret returns a secret key, which is one of those wanted. If the public one is set as well, it is checked.
func (k zeekKeys) secret(end, publicEnd string) (curve.Secret, error) {
	if k[end] == "" {
		return curve.Secret{}, k.missing(end)
	}
	secret, err := curve.ParseSecret([]byte(k[end]))
	if err != nil {
		return secret, usagef("%s%s: %w", zeekVariables, end, err)
	}
	if k[publicEnd] != "" {
		public, err := k.public(publicEnd)
		if err != nil {
			return secret, err
		}
		if public != secret.Public() {
			return secret, usagef("%s%s and %[1]s%[3]s are no pair: take both from one run of zmtpd keygen --env", zeekVariables, end, publicEnd)
		}
	}
	return secret, nil
}

func (k zeekKeys) missing(end string) error {
	return usagef("%s set, but not %s%s: without it nothing would be encrypted; set it, or none of them", k.names(), zeekVariables, end)
}

// checkMixture refuses keys from two sources, of which the flag is one, as Zeek does.
func (k zeekKeys) checkMixture(flag string) error {
	if len(k) == 0 {
		return nil
	}
	return usagef("CURVE keys from two sources: --%s, on the command line, in its variable or in the file of --config, and %s of the environment; remove one of the two",
		flag, k.names())
}

// readKey reads a public key: the text of one, or the name of a certificate file.
func readKey(flag, text string) (curve.Key, error) {
	if len(text) == curve.TextSize {
		if key, err := curve.ParseKey([]byte(text)); err == nil {
			return key, nil
		}
	}
	c, err := curve.ReadCertificate(text)
	if err != nil {
		return curve.Key{}, fmt.Errorf("--%s: neither a key of %d characters nor a certificate file: %w", flag, curve.TextSize, err)
	}
	return c.Public, nil
}
