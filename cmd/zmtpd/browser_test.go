package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"zmtpd/zmtp/testkit"
)

// browser is a page in a headless Chromium, which the test tells what to do by Chrome's DevTools
// protocol.
type browser struct {
	t    *testing.T
	conn *websocket.Conn
	sent int
}

// startBrowser opens a URL. It skips the test on a machine without Chromium.
func startBrowser(t *testing.T, url string) *browser {
	t.Helper()
	return openPage(t, testkit.StartChromium(t, "about:blank"), url)
}

// openPage opens a URL in the browser at an address.
func openPage(t *testing.T, address, url string) *browser {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
		"http://"+address+"/json/new?"+url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var page struct {
		URL string `json:"webSocketDebuggerUrl"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(t.Context(), page.URL,
		&websocket.DialOptions{HTTPClient: &client})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(64 << 20)
	t.Cleanup(func() { conn.CloseNow() })
	return &browser{t: t, conn: conn}
}

// call calls a method of the protocol and decodes its result.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.sent++
	ctx, cancel := context.WithTimeout(b.t.Context(), testkit.Patience)
	defer cancel()
	if err := wsjson.Write(ctx, b.conn, map[string]any{"id": b.sent, "method": method,
		"params": params}); err != nil {
		b.t.Fatal(err)
	}
	for {
		var answer struct {
			ID     int             `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := wsjson.Read(ctx, b.conn, &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID != b.sent {
			continue // an event
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error)
		}
		if err := json.Unmarshal(answer.Result, result); err != nil {
			b.t.Fatal(err)
		}
		return
	}
}

// eval returns the value of a JavaScript expression, as text.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var r struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression}, &r)
	if r.Exception != nil {
		b.t.Fatalf("%s: %s", expression, r.Exception.Text)
	}
	return fmt.Sprint(r.Result.Value)
}

// text returns the text of the first element that a selector finds, empty if there is none.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return b.eval(fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
}

// screenshot writes a picture of the page to a file of a folder, unless the folder is empty.
func (b *browser) screenshot(dir, name string) {
	b.t.Helper()
	if dir == "" {
		return
	}
	var r struct {
		Data string `json:"data"`
	}
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &r)
	picture, err := base64.StdEncoding.DecodeString(r.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
