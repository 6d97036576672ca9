package doctor

import (
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/curve/zeekkeys"
	"zmtpd/zmtp/testkit"
)

// What libzmq's sockets reveal to the doctor, with and without CURVE.
func TestProbeLibzmq(t *testing.T) {
	z := testkit.StartLibzmq(t)
	keys := zeekkeys.Generate()
	client, err := curve.NewClient(keys.Server.Public(), keys.Client)
	if err != nil {
		t.Fatal(err)
	}
	other, err := curve.NewClient(zeekkeys.Generate().Server.Public(), keys.Client)
	if err != nil {
		t.Fatal(err)
	}
	d := &doctor{in: &Input{Timeout: testkit.Patience, Machine: NewMachine()}}
	for _, socket := range []string{"XPUB", "XSUB", "PULL"} {
		for _, secure := range []bool{false, true} {
			name, options, mechanism := socket, testkit.Args{}, "NULL"
			if secure {
				name, mechanism = socket+" CURVE", "CURVE"
				options["CURVE_SERVER"], options["CURVE_SECRETKEY"] = 1,
					testkit.Blob(keys.Server[:])
			}
			z.Call(t, "socket", testkit.Args{"name": name, "type": socket, "options": options})
			at := z.Call(t, "bind", testkit.Args{"name": name,
				"endpoint": "tcp://127.0.0.1:*"}).Endpoint
			// The socket is found for what it is, whatever the doctor wanted there.
			for _, want := range []string{"XPUB", "XSUB", "PULL", ""} {
				a := d.probe(t.Context(), at, want, client)
				if a.fault != "" || a.socket != socket || a.mechanism != mechanism {
					t.Errorf("%s, wanted %s: %+v", name, want, a)
				}
			}
			if secure {
				d.in.Timeout = time.Second // libzmq does not answer
				a := d.probe(t.Context(), at, socket, other)
				d.in.Timeout = testkit.Patience
				if a.fault != "keys-refused" {
					t.Errorf("%s with another server's key: %+v", name, a)
				}
			}
		}
	}
}
