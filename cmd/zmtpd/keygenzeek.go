package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
)

// zeekScript is what nodes load. Zeek takes its keys from variables of scripts or of the environment, never from both.
const zeekScript = `# CURVE keys of the nodes, made by zmtpd keygen --zeek. They talk to zmtpd as clients, so the server's secret key is not here.
# Load it on every node, or give the nodes the variables in nodes.env, but not both.
redef Cluster::Backend::ZeroMQ::curve_server_publickey = "%s";
redef Cluster::Backend::ZeroMQ::curve_client_publickey = "%s";
redef Cluster::Backend::ZeroMQ::curve_client_secretkey = "%s";
`

// writeZeekFolder makes the folder dir, which must not be there yet, and says what its files are for.
func writeZeekFolder(out io.Writer, dir string, now time.Time) error {
	serverPublic, serverSecret := curve.GenerateKeyPair()
	clientPublic, clientSecret := curve.GenerateKeyPair()
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("--zeek: %w; name a folder that is not there yet, so that no key in use is lost", err)
		}
		return fmt.Errorf("--zeek: %w", err)
	}
	server, clients := filepath.Join(dir, "server"), filepath.Join(dir, "clients")
	script, env := filepath.Join(dir, "curve.zeek"), filepath.Join(dir, "nodes.env")
	err := errors.Join(os.Mkdir(server, 0o700), os.Mkdir(clients, 0o700))
	if err != nil {
		return err
	}
	pair := curve.Certificate{Public: serverPublic, Secret: &serverSecret, Metadata: []curve.CertificateProperty{{Name: "name", Value: "zmtpd"}}}
	if err := pair.WriteFiles(filepath.Join(server, "zmtpd.key"), now); err != nil {
		return err
	}
	client := curve.Certificate{Public: clientPublic, Metadata: []curve.CertificateProperty{{Name: "name", Value: "zeek"}}}
	if err := client.WriteFiles(filepath.Join(clients, "zeek.key"), now); err != nil {
		return err
	}
	// Z85 has neither quote nor backslash, so that Zeek and the shell take every key as it stands.
	text := fmt.Appendf(nil, zeekScript, serverPublic, clientPublic, clientSecret.Text())
	if err := os.WriteFile(script, text, 0o600); err != nil {
		return err
	}
	text = nil
	for _, v := range []struct{ name, key string }{
		{daemon.ZeekServerPublic, serverPublic.String()}, {daemon.ZeekClientPublic, clientPublic.String()}, {daemon.ZeekClientSecret, clientSecret.Text()},
	} {
		text = fmt.Appendf(text, "export %s='%s'\n", v.name, v.key)
	}
	if err := os.WriteFile(env, text, 0o600); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `%s	load it on every node of Zeek,
%s	or give every node these variables.
For zmtpd: --curve-secret-key-file %s --curve-clients %s
`, script, env, server, clients)
	return err
}
