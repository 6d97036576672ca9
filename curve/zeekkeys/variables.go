// Package zeekkeys has the CURVE keys of a Zeek cluster: Zeek's environment variables, and a folder
// with the files for all parts of the cluster. Zeek's nodes share one key pair; they are the
// clients. The server is the process to which they connect.
package zeekkeys

import (
	"fmt"
	"strings"

	"zmtpd/curve"
)

// Zeek's environment variables with CURVE keys, from its script
// policy/frameworks/cluster/backend/zeromq/options.zeek.
const (
	ServerPublic = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_SERVER_PUBLICKEY"
	ServerSecret = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_SERVER_SECRETKEY"
	ClientPublic = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_CLIENT_PUBLICKEY"
	ClientSecret = "ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_CLIENT_SECRETKEY"
)

// Names returns the names of the four variables.
func Names() []string { return []string{ServerPublic, ServerSecret, ClientPublic, ClientSecret} }

// Variables are the values of the variables that are set, by name.
type Variables map[string]string

// Read returns the variables that getenv, such as os.Getenv, has. As in Zeek, an empty variable
// counts as unset.
func Read(getenv func(name string) string) Variables {
	v := Variables{}
	for _, name := range Names() {
		if value := getenv(name); value != "" {
			v[name] = value
		}
	}
	return v
}

// String returns the names of the variables that are set. It returns no values, which are secret.
func (v Variables) String() string {
	var set []string
	for _, name := range Names() {
		if v[name] != "" {
			set = append(set, name)
		}
	}
	return strings.Join(set, ", ")
}

// Server returns the keys that a server needs: its own and the public key of its clients. A public
// key beside a secret key must belong to it. The error names the variables at fault.
func (v Variables) Server() (server curve.Secret, client curve.Key, err error) {
	if server, err = v.secret(ServerSecret, ServerPublic); err != nil {
		return server, client, err
	}
	if client, err = v.public(ClientPublic); err != nil {
		return server, client, err
	}
	if v[ClientSecret] != "" {
		_, err = v.secret(ClientSecret, ClientPublic)
	}
	return server, client, err
}

// Client returns the keys that a client needs: its own and the public key of the server. The error
// names the variables at fault.
func (v Variables) Client() (server curve.Key, client curve.Secret, err error) {
	if server, err = v.public(ServerPublic); err != nil {
		return server, client, err
	}
	if _, err = v.public(ClientPublic); err != nil {
		return server, client, err
	}
	client, err = v.secret(ClientSecret, ClientPublic)
	return server, client, err
}

// public returns the public key in a variable, which must be set.
func (v Variables) public(name string) (curve.Key, error) {
	if v[name] == "" {
		return curve.Key{}, v.missing(name)
	}
	key, err := curve.ParseKey([]byte(v[name]))
	if err != nil {
		return curve.Key{}, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// secret returns the secret key in a variable, which must be set. The public key, if it is set,
// must belong to it.
func (v Variables) secret(name, publicName string) (curve.Secret, error) {
	if v[name] == "" {
		return curve.Secret{}, v.missing(name)
	}
	secret, err := curve.ParseSecret([]byte(v[name]))
	if err != nil {
		return curve.Secret{}, fmt.Errorf("%s: %w", name, err)
	}
	if v[publicName] != "" {
		public, err := v.public(publicName)
		if err != nil {
			return curve.Secret{}, err
		}
		if public != secret.Public() {
			return curve.Secret{},
				fmt.Errorf("%s and %s are not a pair: take both from one run of zmtpd keygen --env",
					name, publicName)
		}
	}
	return secret, nil
}

func (v Variables) missing(name string) error {
	if len(v) == 0 {
		return fmt.Errorf("%s is not set", name)
	}
	return fmt.Errorf("%s set, but not %s: nothing would be encrypted without it; set it, or none "+
		"of them", v, name)
}
