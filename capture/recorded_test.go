package capture

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/wire"
)

// onPort keeps the sessions of a server's port.
func onPort(ports ...uint16) Options {
	return Options{Select: func(_, server netip.AddrPort) bool {
		return slices.Contains(ports,
			server.Port())
	}}
}

// What libzmq-mix.pcap has, as its description says.
func TestMix(t *testing.T) {
	file := recording(t, "libzmq-mix")
	for _, test := range []struct {
		port uint16
		want []string
	}{
		{16001, []string{
			"16001 opened",
			"16001 greeting server 3.1 NULL", "16001 greeting client 3.1 NULL",
			"16001 metadata server Socket-Type=REP",
			"16001 metadata client Socket-Type=REQ Identity=",
			`16001 message client "" "question 0" "" ""`,
			`16001 message server "" "answer" "question 0" "" ""`,
			`16001 message client "" "question 1" "" "x"`,
			`16001 message server "" "answer" "question 1" "" "x"`,
			`16001 message client "" "question 2" "" "xx"`,
			`16001 message server "" "answer" "question 2" "" "xx"`,
			"16001 closed finished",
		}},
		{16002, []string{
			"16002 opened",
			"16002 greeting server 3.1 NULL", "16002 greeting client 3.1 NULL",
			"16002 metadata server Socket-Type=ROUTER Identity=",
			"16002 metadata client Socket-Type=DEALER Identity=dealer-1",
			`16002 message client ""`, `16002 message client "hi" "there"`,
			`16002 message server "reply" 300:"AAAAAAAA"`,
			"16002 closed finished",
		}},
		{16003, []string{
			"16003 opened",
			"16003 greeting server 3.1 NULL", "16003 greeting client 3.1 NULL",
			"16003 metadata server Socket-Type=PUB", "16003 metadata client Socket-Type=SUB",
			`16003 command client SUBSCRIBE "a."`, `16003 command client SUBSCRIBE 262:"b.tttttt"`,
			`16003 message server "a.1" "v1"`,
			`16003 command client CANCEL "a."`,
			"16003 closed finished",
		}},
		{16004, []string{
			"16004 opened",
			"16004 greeting server 3.1 NULL", "16004 greeting client 3.1 NULL",
			"16004 metadata server Socket-Type=XPUB", "16004 metadata client Socket-Type=XSUB",
			`16004 message client "\x01topic"`, `16004 message client "\x02user message"`,
			`16004 message server "topic data"`,
			`16004 message client "\x00topic"`,
			"16004 closed finished",
		}},
		{16005, slices.Concat([]string{
			"16005 opened",
			"16005 greeting server 3.1 NULL", "16005 greeting client 3.1 NULL",
			"16005 metadata server Socket-Type=PULL", "16005 metadata client Socket-Type=PUSH",
			`16005 message client 70000:"LLLLLLLL"`, `16005 message client "" "" "last"`,
		}, slices.Repeat([]string{`16005 command client PING "\x002"`,
			`16005 command server PONG ""`},
			13), []string{
			"16005 closed finished",
		})},
		{16006, []string{
			"16006 opened",
			"16006 greeting server 3.1 PLAIN", "16006 greeting client 3.1 PLAIN",
			`16006 command client HELLO "\x04zeek\x06secret"`, `16006 command server WELCOME ""`,
			"16006 metadata client Socket-Type=PAIR", "16006 metadata server Socket-Type=PAIR",
			`16006 message client "plain hello"`,
			"16006 closed finished",
		}},
		{16007, slices.Concat([]string{
			"16007 opened",
			"16007 greeting server 3.1 CURVE", "16007 greeting client 3.1 CURVE",
			`16007 command client HELLO 194:"\x01\x00\x00\x00\x00\x00\x00\x00"`,
			`16007 command server WELCOME 160:"9F:σW\xd2\a\x80"`,
			`16007 command client INITIATE 283:"\x0ed@\"L\xfd%\xd2"`,
			`16007 command server READY 59:"\x00\x00\x00\x00\x00\x00\x00\x01"`,
			// the messages, then PING and PONG
			"16007 encrypted client 11", "16007 encrypted client 6",
			"16007 encrypted server 3000",
		}, slices.Repeat([]string{"16007 encrypted server 7", "16007 encrypted client 5"}, 8),
			[]string{"16007 closed finished"})},
		{16008, []string{
			"16008 opened",
			"16008 greeting server 3.1 PLAIN", "16008 greeting client 3.1 PLAIN",
			`16008 command client HELLO "\x04zeek\x05wrong"`,
			`16008 command server ERROR "\x03400"`,
			"16008 closed finished",
		}},
	} {
		t.Run(fmt.Sprint(test.port), func(t *testing.T) {
			events, stats, err := readAll(t, file, onPort(test.port))
			if err != nil {
				t.Fatal(err)
			}
			diff(t, lines(events), test.want)
			if stats.Sessions != 1 || stats.OtherSessions != 7 || stats.Skipped != 0 ||
				stats.Packets != 236 {
				t.Errorf("%+v", stats)
			}
			for _, ev := range events {
				checkWhole(t, ev)
			}
		})
	}
}

// checkWhole compares the long contents of libzmq-mix.pcap, of which line shows little.
func checkWhole(t *testing.T, ev Event) {
	t.Helper()
	repeated := func(b []byte, c string) {
		if len(b) > 24 && string(b) != strings.Repeat(c, len(b)) {
			t.Errorf("%s: it is not %d times %q", line(ev), len(b), c)
		}
	}
	switch ev.Kind {
	case Message:
		for part := range ev.Message.Parts() {
			repeated(part, map[uint16]string{16002: "A", 16005: "L"}[ev.Session.Server.Port()])
		}
	case Command:
		if ev.Name == wire.CmdSubscribe {
			repeated(bytes.TrimPrefix(ev.Data, []byte("b.")), "t")
		}
	}
}

// ownRecords are the records that the cluster's logger wrote and nobody sent to it: its own, those
// of its process. It also was sent records of loaded_scripts, of which the log was not kept.
var ownRecords = map[string]int{"cluster": 7, "reporter": 1, "stats": 1}

// What the nodes of a cluster sent to its logger is what the logger wrote, beside its own records.
func TestClusterLogs(t *testing.T) {
	sent := map[string][]string{} // records by path
	for _, ev := range mustRead(t, recording(t, "cluster"), onPort(15557)) {
		if ev.Kind != Message {
			continue
		}
		if ev.From != Client || ev.To().Port() != 15557 || ev.Source() != ev.Session.Client {
			t.Errorf("from %v to %v: %s", ev.Source(), ev.To(), line(ev))
		}
		if ev.Message.NumParts() != 4 || string(ev.Message.Part(0)) != "log-write" ||
			string(ev.Message.Part(2)) != "zeek-bin-serializer" {
			t.Fatalf("no log message: %s", line(ev))
		}
		path, records := render(t, ev.Message.Part(3))
		sent[path] = append(sent[path], records...)
	}
	if n := len(sent["loaded_scripts"]); n != 2162 {
		t.Errorf("%d records of loaded_scripts", n)
	}
	delete(sent, "loaded_scripts")
	written := clusterLogs(t)
	for path := range sent {
		if written[path] == nil {
			t.Errorf("nothing was written of %s", path)
		}
	}
	for path, records := range written {
		missing := subtract(records, sent[path])
		if extra := subtract(sent[path], records); len(extra) > 0 {
			t.Errorf("%s: sent, but not written: %q", path, extra)
		}
		if len(missing) != ownRecords[path] {
			t.Errorf("%s: written, but not sent, are %d: %q", path, len(missing), missing)
		}
		for _, record := range missing {
			if path != "reporter" && !strings.Contains(record, "\tlogger\t") {
				t.Errorf("%s: not of the logger: %q", path, record)
			}
		}
	}
}

// render returns path and records of a log batch as lines of a log.
func render(t *testing.T, b []byte) (string, []string) {
	t.Helper()
	batch, err := zeek.ParseBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := zeek.ParseSchema(batch.Header)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zeek.NewRenderer(schema, zeek.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	text, n, err := r.AppendRecords(nil, batch)
	if err != nil {
		t.Fatal(err)
	}
	records := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(records) != n || n != batch.NumRecords {
		t.Fatalf("%d lines of %d records, the batch says %d", len(records), n, batch.NumRecords)
	}
	return string(batch.Path), records
}

// clusterLogs returns the records that the cluster's logger wrote, by path.
func clusterLogs(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("testdata/cluster.logs/*.log")
	if err != nil || len(files) == 0 {
		t.Fatalf("no logs: %v", err)
	}
	written := map[string][]string{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimSuffix(filepath.Base(name), ".log")
		for record := range strings.Lines(string(text)) {
			if !strings.HasPrefix(record, "#") {
				written[path] = append(written[path], strings.TrimSuffix(record, "\n"))
			}
		}
	}
	return written
}

// subtract returns what of a is not in b, as often as it is not.
func subtract(a, b []string) (rest []string) {
	left := map[string]int{}
	for _, s := range b {
		left[s]++
	}
	for _, s := range a {
		if left[s]--; left[s] < 0 {
			rest = append(rest, s)
		}
	}
	return rest
}

// Every event that a node of the cluster publishes goes to the broker once, and from it to others.
func TestCluster(t *testing.T) {
	events, stats, err := readAll(t, recording(t, "cluster"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Stats{Packets: 501, Sessions: 14, OtherSessions: 13,
		Messages: 254}); stats != want {
		t.Errorf("%+v, want %+v", stats, want)
	}
	count := map[string]int{}
	published, delivered := map[string]int{}, map[string]int{}
	for i, ev := range events {
		if i > 0 && ev.Time.Before(events[i-1].Time) {
			t.Errorf("event %d is older than the one before", i)
		}
		count[ev.Kind.String()]++
		if ev.Kind == Problem {
			t.Errorf("%s", line(ev))
		}
		if ev.Kind == Message && ev.Message.NumParts() == 4 {
			switch key := string(ev.Message.Wire()); {
			case ev.From == Client && ev.To().Port() == 15556:
				published[key]++
			case ev.From == Server && ev.Source().Port() == 15555:
				delivered[key]++
			}
		}
	}
	if len(published) == 0 || len(delivered) == 0 {
		t.Fatal("no events of Zeek")
	}
	for key := range delivered {
		if published[key] == 0 {
			t.Errorf("delivered, but not published: %.100q", key)
		}
	}
	for kind, want := range map[string]int{"opened": 14, "greeting": 28, "metadata": 28, "closed": 14,
		"message": 254} {
		if count[kind] != want {
			t.Errorf("%d times %s, want %d", count[kind], kind, want)
		}
	}
}

func TestClusterCurve(t *testing.T) {
	events, stats, err := readAll(t, recording(t, "cluster-curve"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := Stats{Packets: 505, Sessions: 14, OtherSessions: 16, Encrypted: 572}
	if stats != want {
		t.Errorf("%+v, want %+v", stats, want)
	}
	bySession := map[uint64][]Event{}
	for _, ev := range events {
		bySession[ev.Session.ID] = append(bySession[ev.Session.ID], ev)
	}
	if len(bySession) != 14 {
		t.Fatalf("%d sessions, want 14", len(bySession))
	}
	for id, events := range bySession {
		var got []string
		frames := 0
		for _, ev := range events {
			switch ev.Kind {
			case Greeting:
				if ev.Greeting.Mechanism != "CURVE" {
					t.Errorf("session %d: mechanism %q", id, ev.Greeting.Mechanism)
				}
			case Command:
				got = append(got, fmt.Sprintf("%s %s %d", ev.From, ev.Name, len(ev.Data)))
			case Encrypted:
				frames++
			case Problem, Message, Metadata, Gap:
				t.Errorf("session %d: %s", id, line(ev))
			}
		}
		if frames == 0 {
			t.Errorf("session %d has no traffic", id)
		}
		// Sizes without the name and its length: those of RFC 26 less 6, 8, 9 and 6, with the
		// metadata of a socket type.
		diff(t, got, []string{"client HELLO 194", "server WELCOME 160", "client INITIATE 268",
			"server READY 44"})
	}
}
