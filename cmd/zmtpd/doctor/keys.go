package doctor

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"zmtpd/curve"
	"zmtpd/curve/zeekkeys"
)

// optionKeys are the script variables of Zeek's keys, by environment variable.
var optionKeys = map[string]string{
	zeekkeys.ServerPublic: "curve_server_publickey",
	zeekkeys.ServerSecret: "curve_server_secretkey",
	zeekkeys.ClientPublic: "curve_client_publickey",
	zeekkeys.ClientSecret: "curve_client_secretkey",
}

// readKeys takes the keys of Zeek's nodes from scripts or from the environment, and checks them.
func (d *doctor) readKeys(z *zeek, redefs map[string]target) {
	script, where := zeekkeys.Variables{}, ""
	for variable, option := range optionKeys {
		if t, ok := redefs[option]; ok && t.endpoint != "" {
			script[variable], where = t.endpoint, t.origin
		}
	}
	environment := zeekkeys.Read(d.in.Getenv)
	switch {
	case len(script) > 0 && len(environment) > 0:
		d.found.add("keys-mixed", where, "keys in the script, and %s in the environment",
			environment)
		z.keys, z.keysFrom = script, where
	case len(script) > 0:
		z.keys, z.keysFrom = script, where
	case len(environment) > 0:
		z.keys, z.keysFrom = environment, "environment"
	}
	if len(z.keys) == 0 {
		return
	}
	d.found.examined("CURVE keys of Zeek's nodes, %s", z.keysFrom)
	valid := true
	for _, name := range zeekkeys.Names() {
		if text, ok := z.keys[name]; ok {
			if _, err := curve.ParseKey([]byte(text)); err != nil {
				d.found.add("key-invalid", z.keysFrom, "%s: %v", name, err)
				valid = false
			}
		}
	}
	if !valid {
		return
	}
	for _, name := range []string{zeekkeys.ServerPublic, zeekkeys.ClientPublic,
		zeekkeys.ClientSecret} {
		if z.keys[name] == "" {
			d.found.add("keys-incomplete", z.keysFrom, "%s is missing beside %s", name, z.keys)
			return
		}
	}
	_, _, err := z.keys.Client()
	if err == nil && z.keys[zeekkeys.ServerSecret] != "" {
		_, _, err = z.keys.Server()
	}
	if err != nil {
		d.found.add("keys-not-a-pair", z.keysFrom, "%v", err)
	}
}

// zeekctlKeys reads the keys that zeekctl made, if it encrypts.
func (d *doctor) zeekctlKeys(z *zeek, options map[string]setting) {
	use := options["cluster_backend_zeromq.use_curve_encryption"]
	switch strings.ToLower(use.value) {
	case "0", "false":
		return
	case "1", "true":
	case "", "auto":
		if !z.multiHost() {
			return
		}
	default:
		d.found.add("zeekctl-cfg", place(d.in.ZeekctlCfg, use.line),
			"%s: %q is none of auto, 0, 1, true and false", use.key, use.value)
		return
	}
	dir := options["cluster_backend_zeromq.curve_dir"].value
	if dir == "" {
		spool := options["spooldir"].value
		if spool == "" {
			return // only zeekctl knows its prefix
		}
		dir = filepath.Join(spool, "zeromq", "curve")
	}
	z.keysFrom = dir
	z.keys = zeekkeys.Variables{}
	for name, file := range map[string]string{zeekkeys.ServerPublic: "server_publickey",
		zeekkeys.ServerSecret: "server_secretkey", zeekkeys.ClientPublic: "client_publickey",
		zeekkeys.ClientSecret: "client_secretkey"} {
		path := filepath.Join(dir, file)
		text, err := readFile(path)
		if err != nil {
			d.found.add("keys-incomplete", path, "zeekctl encrypts this cluster: %v", err)
			continue
		}
		z.keys[name] = strings.TrimSpace(text)
		if strings.HasSuffix(file, "secretkey") {
			d.checkSecretFile(path)
		}
	}
}

// checkSecretFile reports a file with a secret key that others can read.
func (d *doctor) checkSecretFile(path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() &&
		curve.OpenToOthers(info) {
		d.found.add("key-file-open", path, "its permissions are %v", info.Mode().Perm())
	}
}

// compareKeys compares the keys of Zeek's nodes with those of zmtpd.
func (d *doctor) compareKeys(z *zeek) {
	z4 := d.in.Daemon
	if z4 == nil {
		return
	}
	for _, file := range z4.SecretFiles {
		d.checkSecretFile(file)
	}
	if d.found.has("key-invalid") || d.found.has("keys-incomplete") ||
		d.found.has("keys-not-a-pair") {
		return // the comparison would say the same again
	}
	encrypted := z4.Keys != nil
	if (len(z.keys) > 0) != encrypted {
		if len(z.keys) > 0 {
			d.found.add("encryption-differs", z.keysFrom,
				"Zeek's nodes have keys, and zmtpd has none")
		} else if z.scripts || len(z.nodes) > 0 && d.in.NodeCfg != "" {
			d.found.add("encryption-differs", "zmtpd "+z4.Command,
				"zmtpd has keys, and Zeek's nodes have none in the files that were read")
		}
		return
	}
	if !encrypted {
		return
	}
	server, client, err := z.keys.Client()
	if err != nil {
		return // found by readKeys
	}
	if !slices.Contains(z4.Keys.Server, server) {
		d.found.add("keys-differ", z.keysFrom, "%s is %v, and zmtpd's public key is %v",
			zeekkeys.ServerPublic, server, z4.Keys.Server)
	}
	if z4.Keys.Listed {
		for _, c := range z4.Keys.Clients {
			if c.Key == client.Public() {
				return
			}
		}
		d.found.add("keys-differ", z.keysFrom,
			"zmtpd does not admit the nodes' public key %v; it admits %d others", client.Public(),
			len(z4.Keys.Clients))
	}
}

// clientKeys returns the keys with which to probe encrypted endpoints, nil for none.
func (z *zeek) clientKeys() *curve.Client {
	server, secret, err := maps.Clone(z.keys).Client()
	if err != nil {
		return nil
	}
	c, err := curve.NewClient(server, secret)
	if err != nil {
		return nil
	}
	return c
}
