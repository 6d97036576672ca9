package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

// browserPage subscribes, publishes an event, and reports what it receives.
const browserPage = `<!doctype html><meta charset="utf-8"><body><script>
const report = text => fetch("/report", {method: "POST", body: text});
const ws = new WebSocket("ws://%s%s", ["zmtpd", "zmtpd.bearer.%s"]);
ws.onopen = () => ws.send(JSON.stringify(["to.browser"]));
ws.onclose = e => report("closed " + e.code);
ws.onmessage = m => {
	const got = JSON.parse(m.data);
	if (got.type == "ack") {
		const value = (type, data) => ({"@data-type": type, data});
		ws.send(JSON.stringify({type: "data-message", topic: "from.browser",
			...value("vector", [value("count", 1), value("count", 1), value("vector", [
				value("string", "ping"), value("vector", [
					value("string", "\u00fc"), value("count", 7)])])])}));
	}
	document.body.append(m.data);
	report(got.type + " " + (got.topic || ""));
};
</script></body>`

// TestBrowser shows events in a page of a real browser, with a token and from another origin. The
// browser is not among what make test installs, since it is large.
func TestBrowser(t *testing.T) {
	g := serve(t, Config{Clients: writeFile(t, clientsFile), Origins: []string{"127.0.0.1:*"}})
	observer := g.dial(t, Path, "Authorization", "Bearer "+tokenFree)
	observer.send(`["from.browser"]`)
	observer.acknowledged()

	reports := make(chan string, 10)
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			b, _ := io.ReadAll(io.LimitReader(r.Body, 1000))
			reports <- string(b)
			return
		}
		fmt.Fprintf(w, browserPage, g.address, Path, tokenFree)
	}))
	defer pages.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	testkit.StartChromium(t, pages.URL)
	report := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-reports:
				if got == want {
					return
				}
				t.Errorf("the page reports %q", got)
			case <-ctx.Done():
				t.Fatalf("the page does not report %q", want)
			}
		}
	}
	report("ack ")
	if got := observer.receive(); !strings.Contains(got, `"data":"ü"`) ||
		!strings.Contains(got, `"topic":"from.browser"`) {
		t.Errorf("the page published %s", got)
	}
	observer.send(ping("to.browser", "\xff\x00 raw", 1))
	report("data-message to.browser")
}
