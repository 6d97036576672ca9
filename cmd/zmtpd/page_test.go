package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
