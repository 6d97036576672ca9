//go:build linux

package capture

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"zmtpd/curve"
	"zmtpd/zmtp/testkit"
)

// logsKeyPairs makes libsodium write the key pairs that a program generates: for libzmq with given
// long-term keys, those of its connections.
const logsKeyPairs = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void hex(FILE *f, const unsigned char *k)
{
	for (int i = 0; i < 32; i++)
		fprintf(f, "%02x", k[i]);
}

int crypto_box_keypair(unsigned char *public, unsigned char *secret)
{
	void *sodium = dlopen("libsodium.so.23", RTLD_LAZY);
	int (*real)(unsigned char *, unsigned char *) = dlsym(sodium, "crypto_box_keypair");
	int rc = real(public, secret);
	FILE *f = fopen(getenv("TEST_KEY_PAIRS"), "a");
	fprintf(f, "CURVE_EPHEMERAL ");
	hex(f, public);
	fprintf(f, " ");
	hex(f, secret);
	fprintf(f, "\n");
	fclose(f);
	return rc;
}
`

// Connections between libzmq and libzmq are decrypted with the short-term keys of one side and a
// key of the server: the public one for the client's, the secret one for the server's.
func TestDecryptLibzmq(t *testing.T) {
	dir := t.TempDir()
	source, library := filepath.Join(dir, "keys.c"), filepath.Join(dir, "keys.so")
	if err := os.WriteFile(source, []byte(logsKeyPairs), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Compile(library, source, "-shared", "-fPIC", "-ldl"); err != nil {
		t.Fatal(err)
	}
	start := func(keys string) *testkit.Libzmq {
		t.Setenv("LD_PRELOAD", library)
		t.Setenv("TEST_KEY_PAIRS", filepath.Join(dir, keys))
		z := testkit.StartLibzmq(t)
		os.Unsetenv("LD_PRELOAD")
		return z
	}
	serverKey, serverSecret := curve.GenerateKeyPair()
	clientKey, clientSecret := curve.GenerateKeyPair()
	server, client := start("server"), start("client")
	server.Call(t, "socket", testkit.Args{"name": "s", "type": "PULL", "options": testkit.Args{
		"CURVE_SERVER": 1, "CURVE_SECRETKEY": testkit.Blob(serverSecret[:])}})
	endpoint := server.Call(t, "bind", testkit.Args{"name": "s",
		"endpoint": "tcp://127.0.0.1:*"}).Endpoint
	address, recorded := relay(t, endpoint[len("tcp://"):])
	client.Call(t, "socket", testkit.Args{"name": "c", "type": "PUSH", "options": testkit.Args{
		"CURVE_SERVERKEY": testkit.Blob(serverKey[:]),
		"CURVE_PUBLICKEY": testkit.Blob(clientKey[:]),
		"CURVE_SECRETKEY": testkit.Blob(clientSecret[:])}})
	client.Call(t, "connect", testkit.Args{"name": "c", "endpoint": "tcp://" + address})
	patience := testkit.Patience.Milliseconds()
	for _, text := range []string{"one", "two"} {
		if !client.Call(t, "send", testkit.Args{"name": "c", "timeout": patience,
			"parts": testkit.Blobs([]string{"topic", text})}).OK {
			t.Fatal("not sent")
		}
		if !server.Call(t, "recv", testkit.Args{"name": "s", "timeout": patience}).OK {
			t.Fatal("not received")
		}
	}
	client.Call(t, "close", testkit.Args{"name": "c", "linger": 0})
	file := chunksFile(t, recorded())

	for _, test := range []struct {
		log   string
		add   func(*curve.KeyLogFile)
		found bool
	}{
		{"client", func(l *curve.KeyLogFile) { l.AddServer(serverKey) }, true},
		{"client", func(l *curve.KeyLogFile) { l.AddServerSecret(serverSecret) }, true},
		{"server", func(l *curve.KeyLogFile) { l.AddServerSecret(serverSecret) }, true},
		{"server", func(l *curve.KeyLogFile) { l.AddServer(serverKey) }, false},
		{"client", func(*curve.KeyLogFile) {}, false},
	} {
		keys, err := curve.OpenKeyLog(filepath.Join(dir, test.log))
		if err != nil {
			t.Fatal(err)
		}
		test.add(keys)
		got := lines(mustRead(t, file, Options{Keys: keys}))
		keys.Close()
		for _, want := range []string{"5557 metadata client Socket-Type=PUSH",
			`5557 message client "topic" "one"`, `5557 message client "topic" "two"`} {
			if slices.Contains(got, want) != test.found {
				t.Errorf("log of the %s: %s in %q, want %t", test.log, want, got, test.found)
			}
		}
	}
}
