package main

import (
	"strings"
	"testing"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// connLog returns a log message with one record of conn.log.
func connLog(t testing.TB, path string) zmtp.Message {
	t.Helper()
	s := &zeek.Schema{Stream: "Conn::LOG", Writer: "Log::WRITER_ASCII", Filter: "default",
		Path: path, Fields: []zeek.Field{{Name: "uid", Type: zeek.TypeString},
			{Name: "bytes", Type: zeek.TypeCount}}}
	batch, err := zeek.AppendBatch(nil, s, [][]zeek.Value{{zeek.String("C1"), zeek.Count(7)}})
	if err != nil {
		t.Fatal(err)
	}
	return zmtp.NewMessage([]byte("log-write"), []byte("zeromq_worker-1_h_1_N"),
		[]byte(zeek.SerializerName), batch)
}

// The records of chosen logs reach WebSocket clients and ZeroMQ subscribers, from the logger in the
// process of the broker and from one in its own process.
func TestPublishLogs(t *testing.T) {
	t.Parallel()
	up := startDaemon(t, "up", "--dir", t.TempDir(), "--websocket", "127.0.0.1:0",
		"--publish-logs", "conn,dns")
	own := startDaemon(t, "logger", "--dir", t.TempDir(), "--publish-logs", "conn",
		"--publish-to", up.Endpoint("XSUB"))
	c, ack := webSocket(t, up, "", `["zeek.logs."]`)
	if !strings.Contains(ack, `"ack"`) {
		t.Fatal(ack)
	}
	sub := subscribe(t, up.Endpoint("XPUB"), "zeek.logs.conn")
	testkit.Eventually(t, "the subscriptions", func() bool {
		return own.Metric(`zmtpd_socket_peers{socket="publish"}`) == 1 &&
			up.Metric("zmtpd_forwarder_topics") == 2
	})
	const want = `{"type":"data-message","topic":"zeek.logs.conn","@data-type":"vector","data":[` +
		`{"@data-type":"count","data":1},{"@data-type":"count","data":1},` +
		`{"@data-type":"vector","data":[{"@data-type":"string","data":"zmtpd_log"},` +
		`{"@data-type":"vector","data":[{"@data-type":"string","data":"conn"},` +
		`{"@data-type":"table","data":[{"key":{"@data-type":"string","data":"bytes"},` +
		`"value":{"@data-type":"count","data":7}},{"key":{"@data-type":"string","data":"uid"},` +
		`"value":{"@data-type":"string","data":"C1"}}]}]}]}]}`
	for _, logger := range []*process{up, own} {
		push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
		t.Cleanup(func() { push.Close() })
		if err := push.Connect(logger.Endpoint("PULL")); err != nil {
			t.Fatal(err)
		}
		// The PUB of a logger learns of the subscriptions a little later than it connects.
		testkit.Eventually(t, "a published record", func() bool {
			for _, path := range []string{"http", "conn"} { // http is not chosen
				if err := push.Send(testkit.Context(t), connLog(t, path)); err != nil {
					t.Fatal(err)
				}
			}
			var status struct {
				Logger struct {
					Published *publishStatus `json:"published"`
				} `json:"logger"`
			}
			logger.Status(&status)
			return status.Logger.Published.Published > 0
		})
		if got := receiveText(t, c); got != want {
			t.Errorf("received %s\nwant %s", got, want)
		}
		m, err := sub.Recv(testkit.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Part(0)) != "zeek.logs.conn" ||
			string(m.Part(1)) != "zeromq_worker-1_h_1_N" || string(m.Part(2)) != "broker-json-v1" {
			t.Errorf("received %q", m.AppendParts(nil))
		}
	}
	own.Terminate()
	up.Terminate()
}
