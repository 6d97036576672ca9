package simulation

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"zmtpd/pipeline/logwriter"
	"zmtpd/pipeline/zeek"
)

type port = logwriter.Port

var (
	domain = port{Number: 53, Proto: zeek.ProtoUDP}
	https  = port{Number: 443, Proto: zeek.ProtoTCP}
	web    = port{Number: 80, Proto: zeek.ProtoTCP}
	ssh    = port{Number: 22, Proto: zeek.ProtoTCP}
)

// The columns are a part of those of Zeek's conn.log, dns.log and http.log, with the same names and
// types.

type endpoints struct {
	OrigH netip.Addr `zeek:"orig_h"`
	OrigP port       `zeek:"orig_p"`
	RespH netip.Addr `zeek:"resp_h"`
	RespP port       `zeek:"resp_p"`
}

type connRecord struct {
	TS        time.Time     `zeek:"ts"`
	UID       string        `zeek:"uid"`
	ID        endpoints     `zeek:"id"`
	Proto     string        `zeek:"proto,enum"`
	Service   string        `zeek:"service,optional"`
	Duration  time.Duration `zeek:"duration,optional"`
	OrigBytes uint64        `zeek:"orig_bytes"`
	RespBytes uint64        `zeek:"resp_bytes"`
	ConnState string        `zeek:"conn_state"`
	History   string        `zeek:"history,optional"`
	OrigPkts  uint64        `zeek:"orig_pkts"`
	RespPkts  uint64        `zeek:"resp_pkts"`
}

type dnsRecord struct {
	TS      time.Time       `zeek:"ts"`
	UID     string          `zeek:"uid"`
	ID      endpoints       `zeek:"id"`
	Proto   string          `zeek:"proto,enum"`
	TransID uint64          `zeek:"trans_id"`
	Query   string          `zeek:"query"`
	QType   string          `zeek:"qtype_name"`
	RCode   string          `zeek:"rcode_name"`
	Answers []string        `zeek:"answers,optional"`
	TTLs    []time.Duration `zeek:"TTLs,optional"`
}

type httpRecord struct {
	TS        time.Time `zeek:"ts"`
	UID       string    `zeek:"uid"`
	ID        endpoints `zeek:"id"`
	Method    string    `zeek:"method"`
	Host      string    `zeek:"host"`
	URI       string    `zeek:"uri"`
	UserAgent string    `zeek:"user_agent"`
	Status    uint64    `zeek:"status_code"`
	Length    uint64    `zeek:"response_body_len"`
	Tags      []string  `zeek:"tags,set,enum"`
}

// traffic makes up what a worker could have seen.
type traffic struct{ *rand.Rand }

const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func (r traffic) uid() string {
	b := []byte("C0000000000000000")
	for i := range b[1:] {
		b[1+i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// client is an address of the network that the cluster watches.
func (r traffic) client() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(1 + r.IntN(250))})
}

// server is an address for documentation (RFC 5737, RFC 3849).
func (r traffic) server() netip.Addr {
	if r.IntN(8) == 0 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(1 + r.IntN(250))})
	}
	return netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + r.IntN(250))})
}

func pick[T any](r traffic, all ...T) T { return all[r.IntN(len(all))] }

func (r traffic) endpoints(to port) endpoints {
	from := port{Number: uint16(32768 + r.IntN(28000)), Proto: to.Proto}
	return endpoints{r.client(), from, r.server(), to}
}

func (r traffic) conn(now time.Time) connRecord {
	orig, resp := uint64(r.ExpFloat64()*1000), uint64(r.ExpFloat64()*8000)
	return connRecord{
		TS: now, UID: r.uid(), ID: r.endpoints(pick(r, https, https, web, ssh)), Proto: "tcp",
		Service:   pick(r, "ssl", "ssl", "http", "ssh", ""),
		ConnState: pick(r, "SF", "SF", "S0", "RSTO"),
		Duration:  time.Duration(r.ExpFloat64() * float64(2*time.Second)), History: "ShADadFf",
		OrigBytes: orig, RespBytes: resp, OrigPkts: 4 + orig/1400, RespPkts: 3 + resp/1400,
	}
}

func (r traffic) dns(now time.Time) dnsRecord {
	return dnsRecord{
		TS: now, UID: r.uid(), ID: r.endpoints(domain), Proto: "udp", TransID: r.Uint64N(1 << 16),
		Query: pick(r, "www", "mail", "cdn", "api") + pick(r, ".example.com", ".example.org"),
		QType: pick(r, "A", "A", "AAAA"), RCode: "NOERROR", Answers: []string{r.server().String()},
		TTLs: []time.Duration{time.Duration(60+r.IntN(3600)) * time.Second},
	}
}

func (r traffic) http(now time.Time) httpRecord {
	return httpRecord{
		TS: now, UID: r.uid(), ID: r.endpoints(web), Method: pick(r, "GET", "GET", "POST"),
		Host: "www.example.com", URI: "/" + r.uid(), UserAgent: "Mozilla/5.0 (X11; Linux x86_64)",
		Status: pick(r, uint64(200), 200, 304, 404), Length: uint64(r.ExpFloat64() * 20_000),
	}
}
