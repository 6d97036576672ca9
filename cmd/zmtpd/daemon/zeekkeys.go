package daemon

import (
	"fmt"
	"os"
	"strings"

	"zmtpd/curve"
)

// Zeek's environment variables with CURVE keys, of the script
// policy/frameworks/cluster/backend/zeromq/options.zeek.
const (
	ZeekServerPublic = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_SERVER_PUBLICKEY"
	ZeekServerSecret = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_SERVER_SECRETKEY"
	ZeekClientPublic = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_CLIENT_PUBLICKEY"
	ZeekClientSecret = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_CLIENT_SECRETKEY"
)

var zeekVariables = []string{ZeekServerPublic, ZeekServerSecret, ZeekClientPublic, ZeekClientSecret}

// zeekKeys are the keys in Zeek's variables by the variable's name. An empty variable counts as
// unset.
type zeekKeys map[string]string

func readZeekKeys() zeekKeys {
	k := zeekKeys{}
	for _, name := range zeekVariables {
		if v := os.Getenv(name); v != "" {
			k[name] = v
		}
	}
	return k
}

// names lists the variables that are set.
func (k zeekKeys) names() string {
	var all []string
	for _, name := range zeekVariables {
		if k[name] != "" {
			all = append(all, name)
		}
	}
	return strings.Join(all, ", ")
}

// public returns the public key in a variable, which must be set.
func (k zeekKeys) public(name string) (curve.Key, error) {
	if k[name] == "" {
		return curve.Key{}, k.missing(name)
	}
	key, err := curve.ParseKey([]byte(k[name]))
	if err != nil {
		return key, Usagef("%s: %w", name, err)
	}
	return key, nil
}

// secret returns the secret key in a variable, which must be set. The public key, if it is set,
// must belong to it.
func (k zeekKeys) secret(name, publicName string) (curve.Secret, error) {
	if k[name] == "" {
		return curve.Secret{}, k.missing(name)
	}
	secret, err := curve.ParseSecret([]byte(k[name]))
	if err != nil {
		return secret, Usagef("%s: %w", name, err)
	}
	if k[publicName] != "" {
		public, err := k.public(publicName)
		if err != nil {
			return secret, err
		}
		if public != secret.Public() {
			return secret,
				Usagef("%s and %s are not a pair: take both from one run of zmtpd keygen --env",
					name, publicName)
		}
	}
	return secret, nil
}

func (k zeekKeys) missing(name string) error {
	return Usagef("%s set, but not %s: nothing would be encrypted without it; set it, or none of "+
		"them", k.names(), name)
}

// checkMixture returns an error if there are keys in Zeek's variables as well as in a flag. Zeek
// refuses a mixture too.
func (k zeekKeys) checkMixture(flag string) error {
	if len(k) == 0 {
		return nil
	}
	return Usagef("CURVE keys from two sources: --%s, on the command line, in its variable or in "+
		"the file of --config, and %s of the environment; remove one of the two",
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
		return curve.Key{},
			fmt.Errorf("%s: neither a key of %d characters nor a certificate file: %w", flag,
				curve.TextSize, err)
	}
	return c.Public, nil
}
