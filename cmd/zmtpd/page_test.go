package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zmtpd/cmd/zmtpd/top"
	"zmtpd/zmtp/testkit"
)

// plain removes the commas between thousands.
func plain(n string) string { return strings.ReplaceAll(n, ",", "") }

// The numbers on the page are those of /metrics. ZMTPD_SCREENSHOTS names a folder for pictures.
func TestPageInBrowser(t *testing.T) {
	t.Parallel()
	up := startDaemon(t, "up", "--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*",
		"--listen", "tcp://127.0.0.1:*", "--dir", t.TempDir(), "--rotate", "0")
	b := startBrowser(t, up.Endpoint("HTTP")+"/")
	simulation := start(t, nil, "simulate", "--xsub", up.Endpoint("XSUB"), "--xpub",
		up.Endpoint("XPUB"), "--push", up.Endpoint("PULL"), "--status",
		up.Endpoint("HTTP")+"/status", "--slow", "1")
	testkit.Eventually(t, "all nodes on the page", func() bool {
		return b.eval("document.querySelectorAll('svg a').length") == "6" &&
			b.text("#records-in") != "0"
	})
	b.screenshot(os.Getenv("ZMTPD_SCREENSHOTS"), "page.png")

	// The page of a node has the address of its connections.
	b.eval("[...document.querySelectorAll('svg a')].find(a => a.textContent.includes('worker-2')).dispatchEvent(new MouseEvent('click', {bubbles: true}))")
	testkit.Eventually(t, "the page of worker-2", func() bool {
		return b.text("h2") == "worker-2" &&
			strings.Contains(b.text("main"), "broker: XPUB at 127.0.0.1:")
	})
	b.eval("location.hash = ''")

	simulation.Cmd.Process.Signal(os.Interrupt)
	if status := simulation.Wait(); status != 0 {
		t.Errorf("simulate ended with %d: %s", status, simulation.Stderr.String())
	}
	for id, series := range map[string]string{
		"records-received": "zmtpd_logger_received_records_total",
		"events-received":  `zmtpd_socket_received_messages_total{socket="xsub"}`,
	} {
		var shown string
		testkit.Eventually(t, id, func() bool {
			shown = plain(b.text("#" + id))
			return shown == fmt.Sprint(uint64(up.Metric(series)))
		})
	}
	if status := b.eval("document.getElementById('state').className"); status != "" {
		t.Errorf("the page is not well: %s", b.text("#state"))
	}
	// Nothing was refused by the policy of the page, and nothing failed.
	if n := b.eval("performance.getEntriesByType('resource').filter(e => e.responseStatus >= 400).length"); n != "0" {
		t.Errorf("%s files of the page are missing", n)
	}
}

// The page and zmtpd top show WebSocket clients, stores and clones, with the numbers of /metrics, and
// the page says what is wrong with them and with a sink.
func TestClientsAndStoresAreShown(t *testing.T) {
	t.Parallel()
	// The clone finds no master, and so up never becomes ready.
	up := startListening(t, "up", "--dir", t.TempDir(), "--websocket", "127.0.0.1:0",
		"--sink", "files", "--sink", "kafka", "--kafka-broker",
		fmt.Sprintf("127.0.0.1:%d", testkit.ReservePort(t)),
		"--store", "hosts", "--store-dir", t.TempDir(), "--store-http", "127.0.0.1:0",
		"--store-clone", "elsewhere")
	c, _ := webSocket(t, up, "", `["other."]`)
	c.CloseRead(t.Context()) // it answers pings
	_, text := gatewayEvent(t, "zeek.x", "hello", uint64(1))
	sendText(t, c, text)
	for _, key := range []string{"a", "b"} {
		runTool(t, nil, "store", "put", "--url", up.Endpoint("STORE"), "hosts", key, "value")
	}
	const client = `{application="test/1.0",client=""}`
	testkit.Eventually(t, "the event of the client", func() bool {
		_, metrics := up.Get("/metrics")
		return strings.Contains(metrics,
			`zmtpd_websocket_topic_events_total{direction="in",topic="zeek.x"} 1`)
	})
	testkit.Eventually(t, "the reason why it is not ready", func() bool {
		_, why := up.Get("/readyz")
		return strings.Contains(why, "no master of the store elsewhere was found")
	})

	var s top.Snapshot
	if err := json.Unmarshal([]byte(runTool(t, nil, "top", "--once", "--json", "--interval", "10ms",
		up.Endpoint("HTTP"))), &s); err != nil {
		t.Fatal(err)
	}
	received := up.Metric("zmtpd_websocket_received_messages_total" + client)
	sent := up.Metric("zmtpd_websocket_sent_events_total" + client)
	if len(s.Clients) != 1 || s.Clients[0].Application != "test/1.0" ||
		s.Clients[0].Connections != 1 || float64(s.Clients[0].Received) != received ||
		float64(s.Clients[0].Sent) != sent {
		t.Errorf("clients %+v", s.Clients)
	}
	if len(s.Stores) != 2 || s.Stores[0].Store != "hosts" || s.Stores[0].Keys != 2 ||
		s.Stores[0].Operations < 2 || s.Stores[1].Store != "elsewhere" || !s.Stores[1].Clone ||
		float64(s.Stores[0].Bytes) != up.Metric(`zmtpd_store_bytes{store="hosts"}`) {
		t.Errorf("stores %+v", s.Stores)
	}
	tables := runTool(t, nil, "top", "--once", "--interval", "10ms", up.Endpoint("HTTP"))
	for _, want := range []string{"test/1.0", "operations/s*", "elsewhere", "clone"} {
		if !strings.Contains(tables, want) {
			t.Errorf("top shows no %s:\n%s", want, tables)
		}
	}

	b := startBrowser(t, up.Endpoint("HTTP")+"/")
	row := func(first string) string {
		return b.eval(fmt.Sprintf(`[...document.querySelectorAll('tr')].map(r => [...r.cells].map(
			c => c.textContent).join(' | ')).find(r => r.startsWith(%q)) ?? ''`, first))
	}
	testkit.Eventually(t, "the sections of clients and stores", func() bool {
		return row("anybody | ") != "" && row("hosts | ") != "" && row("elsewhere | ") != ""
	})
	// What is wrong comes first, and the picture shows it too.
	testkit.Eventually(t, "the troubles", func() bool {
		all := b.text("#troubles")
		return strings.Contains(all, "not ready: ") && strings.Contains(all, "sink kafka: ") &&
			strings.Contains(all, "clone of store elsewhere is stale") &&
			b.eval("document.querySelectorAll('svg path.bad').length") == "1"
	})
	b.screenshot(os.Getenv("ZMTPD_SCREENSHOTS"), "stores.png")
	if got := row("anybody | "); !strings.HasPrefix(got, "anybody | test/1.0 | 1 | ") {
		t.Errorf("the client: %s", got)
	}
	if got := row("hosts | "); !strings.HasPrefix(got, "hosts | 2 | ") {
		t.Errorf("the store: %s", got)
	}
	if got := row("elsewhere | "); !strings.HasPrefix(got, "elsewhere | 0 | 0 | ") {
		t.Errorf("the clone: %s", got)
	}
}

// A name that a peer chose is text on the page, not HTML.
func TestPagePolicy(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "forwarder")
	for _, path := range []string{"/", "/page/page.js", "/page/model.js", "/page/page.css"} {
		r, err := http.Get(d.Endpoint("HTTP") + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		policy := r.Header.Get("Content-Security-Policy")
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(policy, "default-src 'none'") ||
			strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %s, policy %q", path, r.Status, policy)
		}
	}
	if status, _ := d.Get("/page/other"); status != http.StatusNotFound {
		t.Errorf("/page/other: status %d", status)
	}
}

// The page on a phone, by keyboard, and in dark and light: no sideways scrolling of the page, every
// node can be reached with Tab and opened with Enter, and colours follow the system.
func TestPageOnPhone(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys")
	runTool(t, nil, "keygen", "--zeek", keys)
	up := startDaemon(t, "up", "--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*",
		"--listen", "tcp://127.0.0.1:*", "--dir", t.TempDir(), "--spool", t.TempDir(),
		"--curve-secret-key-file", filepath.Join(keys, "server"), "--curve-clients",
		filepath.Join(keys, "clients"))
	start(t, nil, "sub", "--connect", up.Endpoint("XPUB"), "--topic", "zeek.",
		"--curve-server-key", filepath.Join(keys, "tools", "server.key"),
		"--curve-secret-key-file", filepath.Join(keys, "tools", "zeek.key_secret"))
	b := startBrowser(t, up.Endpoint("HTTP")+"/")
	var ignored struct{}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 360, "height": 740,
		"deviceScaleFactor": 1, "mobile": true}, &ignored)
	testkit.Eventually(t, "who may do what, and the sinks", func() bool {
		main := b.text("main")
		return strings.Contains(main, "Who may do what") && strings.Contains(main,
			"Sinks and spools") && strings.Contains(main, "zeek1allallyes0")
	})
	if n := b.eval("document.documentElement.scrollWidth - innerWidth"); n != "0" {
		t.Errorf("the page is %s pixels too wide for a phone", n)
	}
	background := func(scheme string) string {
		b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
			{"name": "prefers-color-scheme", "value": scheme}}}, &ignored)
		return b.eval("getComputedStyle(document.body).backgroundColor")
	}
	if dark, light := background("dark"), background("light"); dark == light {
		t.Errorf("dark and light have the background %s", dark)
	}
	press := func(key string, code int, text string) {
		for _, kind := range []string{"keyDown", "keyUp"} {
			b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key,
				"windowsVirtualKeyCode": code, "text": text}, &ignored)
		}
	}
	testkit.Eventually(t, "a node in focus", func() bool {
		press("Tab", 9, "")
		return strings.Contains(b.eval("document.activeElement.getAttribute('href')"), "#node=")
	})
	press("Enter", 13, "\r")
	testkit.Eventually(t, "the page of the node", func() bool {
		return strings.Contains(b.text("main"), "All nodes")
	})
}
