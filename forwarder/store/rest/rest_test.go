package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"strings"
	"testing"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

func serve(t *testing.T, clients string) (*store.Store, string) {
	t.Helper()
	return serveFor(t, clients, nil)
}

// serveFor serves a store whose writes go to a master.
func serveFor(t *testing.T, clients string, master Master) (*store.Store, string) {
	t.Helper()
	st, err := store.Open(store.Config{Name: "hosts"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Stores: func() []*store.Store { return []*store.Store{st} },
		Master: func(string) Master { return master }}
	if clients != "" {
		all, err := ParseClients([]byte(clients))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Clients = func() *Clients { return all }
	}
	s := New(cfg)
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		server.Close()
		st.Close()
	})
	return st, server.URL
}

// do sends a request and returns the status, the answer and its ETag. Headers are "Name: value".
func do(t *testing.T, method, url, body string, headers ...string) (int, string, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer.Header.Get("ETag")
}

// elsewhere is a store as its clones see it.
type elsewhere struct{ *store.Store }

func (e elsewhere) Apply(ctx context.Context, who string, writes ...store.Write) (store.Applied,
	error) {
	if writes[0].Op == "push" {
		return store.Applied{}, store.Errorf(store.RequestTimeout, "the master has not answered")
	}
	return e.Store.Apply(ctx, who+"@clone", writes...)
}

// TestMaster sends writes for a store to its master elsewhere, and gets the answers of that.
func TestMaster(t *testing.T) {
	master, err := store.Open(store.Config{Name: "hosts"})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	st, url := serveFor(t, "", elsewhere{master})
	key := url + "/v1/stores/hosts/a"
	for _, c := range []struct {
		method, url, body, header string
		status                    int
		contains                  string
	}{
		{"PUT", key, `{"value": 5}`, "If-None-Match: *", 200, `"type":"count","value":5`},
		{"PUT", key, `{"value": 6}`, "If-None-Match: *", 412, "condition"},
		{"PATCH", key, `{"op":"increment","value":2}`, `If-Match: "1-0"`, 200, `"value":7`},
		{"PATCH", key, `{"op":"increment","value":2}`, `If-Match: "1-0"`, 412, "condition"},
		{"PATCH", key, `{"op":"increment","value":2}`, "If-Match: *", 400, "at a clone"},
		{"PATCH", key, `{"op":"append","value":"x"}`, "", 409, "type_clash"},
		{"PATCH", key, `{"op":"push","value":1}`, "", 504, "request_timeout"},
		{"POST", url + "/v1/stores/hosts", `{"writes":[{"op":"put","key":"b","value":1}]}`, "", 200,
			"{}"},
		{"DELETE", key, "", "", 204, ""},
	} {
		var headers []string
		if c.header != "" {
			headers = []string{c.header}
		}
		status, text, _ := do(t, c.method, c.url, c.body, headers...)
		if status != c.status || !strings.Contains(text, c.contains) {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.body, c.header, status, text, c.status,
				c.contains)
		}
	}
	if master.Stats().Keys != 1 || st.Stats().Keys != 0 {
		t.Errorf("the master has %d keys, the copy %d", master.Stats().Keys, st.Stats().Keys)
	}
}

func TestRequests(t *testing.T) {
	_, url := serve(t, "")
	key := url + "/v1/stores/hosts/a/b%20c"
	_, _, tag := do(t, "PUT", key, `{"value": 5, "ttl": "1h"}`)
	for _, c := range []struct {
		method, url, body, header string
		status                    int
		contains                  string
	}{
		{"GET", key, "", "", 200, `"type":"count","value":5,`},
		{"GET", key, "", "If-None-Match: " + tag, 304, ""},
		{"PATCH", key, `{"op":"increment","value":2}`, "If-Match: \"1-x\"", 412, "condition"},
		{"PATCH", key, `{"op":"increment","value":2}`, "If-Match: " + tag, 200, `"value":7`},
		{"PATCH", key, `{"op":"increment","value":-2}`, "", 409, `"code":11,"error":"type_clash"`},
		{"PATCH", key, `{"op":"increment"}`, "", 400, "needs a value"},
		{"PATCH", key, `{"op":"clear"}`, "", 400, "POST"},
		{"PATCH", key, `{"op":"frobnicate","value":1}`, "", 400, "invalid_data"},
		{"PUT", key, `{"value": 5}`, "If-None-Match: *", 412, ""},
		{"PUT", key, `{"value": 5`, "", 400, ""},
		{"PUT", key, `{"valeu": 5}`, "", 400, "valeu"},
		{"PUT", key, `{"value": 99999999999999999999}`, "", 400, "does not fit"},
		{"PUT", key, `{"value": {"@data-type":"count","data":-1}}`, "", 400, ""},
		{"PUT", key, `{"value": ` + strings.Repeat("[", 100000) + `}`, "", 400, ""},
		{"PUT", key, `{"value": 5, "ttl": "-1s"}`, "", 400, "ttl"},
		{"PUT", url + `/v1/stores/hosts/%7B%22@data-type%22:%22addr%22%7D`, `{"value":1}`, "", 400, ""},
		{"PUT", url + `/v1/stores/hosts/%7B%22@data-type%22:%22address%22,%22data%22:%2210.0.0.1%22%7D`,
			`{"value":["x",true,-1,1.5,null,{"@data-type":"port","data":"53/udp"}]}`, "", 200,
			`"value":["x",true,-1,1.5,null,"53/udp"]`},
		{"DELETE", key, "", "", 204, ""},
		{"DELETE", key, "", "", 404, `"code":9`},
		{"GET", key, "", "", 404, "no_such_key"},
		{"GET", url + "/v1/stores/other/a", "", "", 404, "no_such_master"},
		{"GET", url + "/v1/stores/hosts/", "", "", 404, ""},
		{"POST", url + "/v1/stores/hosts", `{"writes":[{"op":"put","key":"x","value":"1"},` +
			`{"op":"put_unique","key":"x","value":"2"}]}`, "", 412, "write 1"},
		{"GET", url + "/v1/stores/hosts/x", "", "", 404, ""},
		{"POST", url + "/v1/stores/hosts", `{"writes":[{"op":"insert_into","key":"x","value":"1"},` +
			`{"op":"insert_into","key":"y","index":"i","value":"2"}]}`, "", 200, `"seq":`},
		{"POST", url + "/v1/stores/hosts", `{"writes":[]}`, "", 400, ""},
		{"GET", url + "/v1/stores/hosts/y", "", "", 200, `"type":"table","value":[["i","2"]]`},
		{"GET", url + "/v1/stores", "", "", 200, `{"stores":["hosts"]}`},
		{"GET", url + "/v1/stores/hosts?limit=x", "", "", 400, ""},
	} {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		status, text, _ := do(t, c.method, c.url, c.body, headers...)
		if status != c.status || !strings.Contains(text, c.contains) {
			t.Errorf("%s %s %.100s: %d %s, want %d and %s", c.method, c.url, c.body, status, text, c.status,
				c.contains)
		}
	}
}

// TestList: the pages have all entries with a prefix, once.
func TestList(t *testing.T) {
	st, url := serve(t, "")
	for i := range 25 {
		for _, key := range []any{fmt.Sprintf("a%d", i), fmt.Sprintf("{%d", i), uint64(i), fmt.Sprintf("\xff%d", i)} {
			raw, err := store.Make(key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Apply(t.Context(), "", store.Write{Op: "put", Key: raw, Value: raw}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for prefix, want := range map[string]int{"": 100, "a": 25, "a1": 11, "{": 25, "b": 0} {
		got := map[string]bool{}
		for cursor := ""; ; {
			q := "?limit=7&prefix=" + neturl.QueryEscape(prefix) + "&cursor=" + neturl.QueryEscape(cursor)
			status, text, _ := do(t, "GET", url+"/v1/stores/hosts"+q, "")
			var page struct {
				Entries []Entry
				Cursor  string
			}
			if err := json.Unmarshal([]byte(text), &page); err != nil || status != 200 {
				t.Fatal(status, text, err)
			}
			for _, e := range page.Entries {
				key, err := ParseKey(e.Key)
				if err != nil || string(key) != string(e.KeyRaw) || got[e.Key] {
					t.Errorf("prefix %q: entry %s again, or its key is not that of key_raw, error %v", prefix,
						e.Key, err)
				}
				got[e.Key] = true
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
		}
		if len(got) != want {
			t.Errorf("prefix %q: %d entries, want %d", prefix, len(got), want)
		}
	}
}

func TestClients(t *testing.T) {
	_, url := serve(t, `{clients: [{name: admin, token: admin-token-123456, read: ["*"], write: ["*"]},
		{name: part, token: part-token-1234567, read: [hosts/a], write: [hosts/a1]}]}`)
	for _, c := range []struct {
		token, method, path, body string
		status                    int
	}{
		{"", "GET", "/hosts/a", "", 401},
		{"wrong", "GET", "/hosts/a", "", 401},
		{"admin-token-123456", "PUT", "/hosts/b", `{"value":1}`, 200},
		{"part-token-1234567", "PUT", "/hosts/a1x", `{"value":1}`, 200},
		{"part-token-1234567", "PUT", "/hosts/a2", `{"value":1}`, 403},
		{"part-token-1234567", "GET", "/hosts/a1x", "", 200},
		{"part-token-1234567", "GET", "/hosts/b", "", 403},
		{"part-token-1234567", "GET", "/hosts", "", 403},
		{"part-token-1234567", "GET", "/hosts?prefix=a", "", 200},
		{"part-token-1234567", "GET", "/hosts?watch", "", 403},
		{"part-token-1234567", "POST", "/hosts", `{"writes":[{"op":"clear"}]}`, 403},
		{"part-token-1234567", "POST", "/hosts", `{"writes":[{"op":"erase","key":"a1"},{"op":"erase","key":"b"}]}`, 403},
		{"admin-token-123456", "POST", "/hosts", `{"writes":[{"op":"clear"}]}`, 200},
	} {
		status, text, _ := do(t, c.method, url+"/v1/stores"+c.path, c.body, "Authorization: Bearer "+c.token)
		if status != c.status {
			t.Errorf("%s: %s %s %s: %d %s, want %d", c.token, c.method, c.path, c.body, status, text, c.status)
		}
	}
	for _, text := range []string{"clients: [{name: a}]", "clients: [{name: a, token: short}]", "x: 1",
		"clients: [{name: a, token_sha256: 12}]",
		"clients: [{name: a, token: admin-token-123456}, {name: b, token: admin-token-123456}]",
		"clients: [{name: a, token: admin-token-123456}, {name: a, token: admin-token-1234567}]"} {
		if _, err := ParseClients([]byte(text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestWatch(t *testing.T) {
	st, url := serve(t, "")
	put := func(key string) {
		t.Helper()
		if _, err := st.Apply(t.Context(), "me", store.Write{Op: "put", Key: store.Text(key),
			Value: store.Text("v")}); err != nil {
			t.Fatal(err)
		}
	}
	put("a1")
	r, err := http.Get(url + "/v1/stores/hosts?watch&after=0&prefix=a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	next := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data: ") {
				if !strings.Contains(lines.Text(), want) {
					t.Fatalf("%s, want %s", lines.Text(), want)
				}
				return
			}
		}
		t.Fatal("the watch has ended", lines.Err())
	}
	next(`"key":"a1"`)
	put("b")
	put("a2")
	next(`"key":"a2"`)
	if _, err := st.Apply(t.Context(), "", store.Write{Op: "clear"}); err != nil {
		t.Fatal(err)
	}
	next(`"change":"clear"`)
	id := fmt.Sprintf("Last-Event-ID: %x-%d", st.Epoch()+1, 1)
	if status, text, _ := do(t, "GET", url+"/v1/stores/hosts?watch", "", id); status != http.StatusGone {
		t.Error(status, text)
	}
}

// TestHostile: requests that are too large, too many or malformed are refused, and the next one is
// answered.
func TestHostile(t *testing.T) {
	_, url := serve(t, "")
	key := url + "/v1/stores/hosts/a"
	zeros := func(n int64) io.Reader { return io.LimitReader(zeroes{}, n) }
	for _, c := range []struct {
		method, url string
		body        io.Reader
		length      int64
		status      int
	}{
		{"PUT", key, zeros(40 << 20), 40 << 20, 413},
		{"PUT", key, zeros(40 << 20), -1, 400}, // no JSON
		{"PUT", key, io.MultiReader(strings.NewReader(`{"value":"`), io.LimitReader(letters{}, 4<<20)), -1, 413},
		{"PUT", url + "/v1/stores/hosts/" + strings.Repeat("k", 70_000), strings.NewReader(`{"value":1}`), 11, 400},
		{"PUT", key, strings.NewReader(`{"raw":"/////w=="}`), 18, 400},
		{"GET", url + "/v1/stores/hosts?limit=99999999999999999999", nil, 0, 400},
		{"GET", url + "/v1/stores/hosts?cursor=%7B", nil, 0, 400},
		{"GET", url + "/v1/stores/hosts?watch&after=-1", nil, 0, 400},
		{"GET", url + "/v1/stores/hosts?watch&after=99999", nil, 0, 200}, // ends with an error event
		{"BREW", key, nil, 0, 405},
		{"PUT", key, strings.NewReader(`{"value":1}`), 11, 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, c.url, c.body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = c.length
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			// The server need not read a body that it refuses.
			if c.status != 413 {
				t.Errorf("%s %.80s: %v", c.method, c.url, err)
			}
			continue
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != c.status || err != nil {
			t.Errorf("%s %.80s: %d %.200s, want %d, error %v", c.method, c.url, answer.StatusCode, text, c.status,
				err)
		}
	}
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

type letters struct{}

func (letters) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`["x",true,-1,1.5,null,{"@data-type":"port","data":"53/udp"}]`))
	f.Add([]byte(`{"@raw":"BQFh"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if v, err := ParseValue(text); err == nil && v != nil {
			if _, err := event.Parse(v); err != nil {
				t.Error(err)
			}
		}
		key, err := ParseKey(string(text))
		if err != nil {
			return
		}
		back, err := ParseKey(KeyText(key))
		want, _ := store.Make(key)
		got, _ := store.Make(back)
		if err != nil || string(got) != string(want) {
			t.Errorf("the key %q became %q, error %v", want, got, err)
		}
	})
}
