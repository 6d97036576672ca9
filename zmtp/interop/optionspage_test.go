//go:build unix

package interop

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"zmtpd/zmtp"
)

// typesOnPage are those types of package zmtp whose fields and methods the page names.
var typesOnPage = map[string]reflect.Type{
	"ClientOptions":  reflect.TypeFor[zmtp.ClientOptions](),
	"Config":         reflect.TypeFor[zmtp.Config](),
	"DealerOptions":  reflect.TypeFor[zmtp.DealerOptions](),
	"Message":        reflect.TypeFor[zmtp.Message](),
	"Peer":           reflect.TypeFor[*zmtp.Peer](),
	"PushOptions":    reflect.TypeFor[zmtp.PushOptions](),
	"ReqOptions":     reflect.TypeFor[zmtp.ReqOptions](),
	"Router":         reflect.TypeFor[*zmtp.Router](),
	"RouterOptions":  reflect.TypeFor[zmtp.RouterOptions](),
	"ScatterOptions": reflect.TypeFor[zmtp.ScatterOptions](),
	"ServerOptions":  reflect.TypeFor[zmtp.ServerOptions](),
	"Socket":         reflect.TypeFor[*zmtp.Socket](),
	"StreamOptions":  reflect.TypeFor[zmtp.StreamOptions](),
	"Sub":            reflect.TypeFor[*zmtp.Sub](),
	"XPub":           reflect.TypeFor[*zmtp.XPub](),
	"XPubOptions":    reflect.TypeFor[zmtp.XPubOptions](),
	"XSubOptions":    reflect.TypeFor[zmtp.XSubOptions](),
}

// docs/options.md has every option of libzmq's header, once, and what it names in package zmtp
// exists.
func TestOptionsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	header, err := os.ReadFile("/usr/include/zmq.h")
	if err != nil {
		t.Fatal(err)
	}
	_, options, _ := strings.Cut(string(header), "Socket options.")
	options, _, _ = strings.Cut(options, "Message options")
	_, drafts, _ := strings.Cut(string(header), "DRAFT Socket options.")
	drafts, _, _ = strings.Cut(drafts, "DRAFT ZMQ_RECONNECT_STOP options")
	found := regexp.MustCompile(`#define (ZMQ_\w+) \d+\n`).FindAllStringSubmatch(options+drafts, -1)
	if len(found) < 80 {
		t.Fatalf("zmq.h has %d options", len(found))
	}
	for _, f := range found {
		if n := strings.Count(string(page), "`"+f[1]+"`"); n != 1 {
			t.Errorf("%s is there %d times", f[1], n)
		}
	}
	for _, f := range regexp.MustCompile("`([A-Z]\\w+)\\.([A-Z]\\w+)`").FindAllStringSubmatch(
		string(page), -1) {
		typ, ok := typesOnPage[f[1]]
		if !ok {
			t.Errorf("%s: no such type", f[0])
			continue
		}
		_, ok = typ.MethodByName(f[2])
		if typ.Kind() == reflect.Struct && !ok {
			_, ok = typ.FieldByName(f[2])
		}
		if !ok {
			t.Errorf("there is no %s", f[0])
		}
	}
}
