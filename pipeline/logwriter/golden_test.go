package logwriter

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// Records of Zeek as Go structs.

type (
	connState string
	protocol  string

	connID struct {
		OrigH netip.Addr `zeek:"orig_h"`
		OrigP Port       `zeek:"orig_p"`
		RespH netip.Addr `zeek:"resp_h"`
		RespP Port       `zeek:"resp_p"`
	}

	// these columns identify a connection in most logs
	head struct {
		TS  time.Time `zeek:"ts"`
		UID string    `zeek:"uid"`
		ID  connID    `zeek:"id"`
	}

	conn struct {
		head
		Proto       protocol   `zeek:"proto,enum"`
		Service     *string    `zeek:"service"`
		Duration    *float64   `zeek:"duration,interval"`
		OrigBytes   *uint64    `zeek:"orig_bytes"`
		RespBytes   *uint64    `zeek:"resp_bytes"`
		State       *connState `zeek:"conn_state"`
		LocalOrig   *bool      `zeek:"local_orig"`
		LocalResp   *bool      `zeek:"local_resp"`
		MissedBytes *uint32    `zeek:"missed_bytes"`
		History     string     `zeek:"history,optional"`
		OrigPkts    *uint64    `zeek:"orig_pkts"`
		OrigIPBytes *uint64    `zeek:"orig_ip_bytes"`
		RespPkts    *uint64    `zeek:"resp_pkts"`
		RespIPBytes *uint64    `zeek:"resp_ip_bytes"`
		Parents     []string   `zeek:"tunnel_parents,set,optional"`
		IPProto     *uint16    `zeek:"ip_proto"`
		NotLogged   chan int   `zeek:"-"`
	}

	dns struct {
		Head       head      `zeek:"-"`
		TS         time.Time `zeek:"ts"`
		UID        []byte    `zeek:"uid"`
		ID         *connID   `zeek:"id"`
		Proto      string    `zeek:"proto,enum"`
		TransID    *uint16   `zeek:"trans_id"`
		RTT        *float64  `zeek:"rtt,interval"`
		Query      *string   `zeek:"query"`
		QClass     *uint64   `zeek:"qclass"`
		QClassName *[]byte   `zeek:"qclass_name"`
		QType      *uint64   `zeek:"qtype"`
		QTypeName  []byte    `zeek:"qtype_name,optional"`
		RCode      *uint64   `zeek:"rcode"`
		RCodeName  *string   `zeek:"rcode_name"`
		AA         *bool     `zeek:"AA"`
		TC         *bool     `zeek:"TC"`
		RD         *bool     `zeek:"RD"`
		RA         *bool     `zeek:"RA"`
		Z          *uint     `zeek:"Z"`
		Answers    []string  `zeek:"answers,optional"`
		TTLs       []float64 `zeek:"TTLs,interval,optional"`
		Rejected   *bool     `zeek:"rejected"`
		Opcode     *uint64   `zeek:"opcode"`
		OpcodeName *string   `zeek:"opcode_name"`
	}

	http struct {
		head
		TransDepth    uint64     `zeek:"trans_depth"`
		Method        *string    `zeek:"method"`
		Host          *string    `zeek:"host"`
		URI           *string    `zeek:"uri"`
		Referrer      *string    `zeek:"referrer"`
		Version       *string    `zeek:"version"`
		UserAgent     *string    `zeek:"user_agent"`
		Origin        *string    `zeek:"origin"`
		RequestLen    *uint64    `zeek:"request_body_len"`
		ResponseLen   *uint64    `zeek:"response_body_len"`
		StatusCode    *uint64    `zeek:"status_code"`
		StatusMsg     *string    `zeek:"status_msg"`
		InfoCode      *uint64    `zeek:"info_code"`
		InfoMsg       *string    `zeek:"info_msg"`
		Tags          []string   `zeek:"tags,set,enum"`
		Username      *string    `zeek:"username"`
		Password      *string    `zeek:"password"`
		Proxied       *[]string  `zeek:"proxied,set"`
		OrigFUIDs     []*string  `zeek:"orig_fuids,optional"`
		OrigFilenames []protocol `zeek:"orig_filenames,optional"`
		OrigMIMETypes []string   `zeek:"orig_mime_types,vector,optional"`
		RespFUIDs     *[]*string `zeek:"resp_fuids"`
		RespFilenames [][]byte   `zeek:"resp_filenames,optional"`
		RespMIMETypes []string   `zeek:"resp_mime_types,optional"`
	}

	edgeInner struct {
		Z *string   `zeek:"z"`
		W []uint64  `zeek:"w,set,optional"`
		V []*string `zeek:"v,vector,optional"`
	}

	edgeOuter struct {
		X  *uint64   `zeek:"-"`
		N  uint64    `zeek:"x"`
		Y  edgeInner `zeek:"y"`
		ID *connID   `zeek:"id"`
	}

	edgeNested struct {
		TS time.Time  `zeek:"ts"`
		A  *edgeOuter `zeek:"a"`
		B  edgeOuter  `zeek:"b"`
	}
)

// rewrite writes the recorded records of a path with a Writer, and compares the messages with the
// recorded ones, in all four parts.
func rewrite[T any](t *testing.T, archive, path string, wantRecords int) {
	t.Run(path, func(t *testing.T) {
		q := make(queue, 1)
		writers := map[string]*Writer[T]{} // by node
		total := 0
		for i, want := range testkit.Messages(t, archive) {
			s, records := decode(t, want[3])
			if s.Path != path {
				continue
			}
			node := string(want[1])
			if writers[node] == nil {
				writers[node] = newWriter[T](t, q,
					Config{Node: node, Stream: s.Stream, Path: s.Path})
			}
			w := writers[node]
			for _, values := range records {
				var record T
				v := reflect.ValueOf(&record).Elem()
				if rest := fillRecord(v, values); len(rest) > 0 {
					t.Fatalf("the struct lacks %d columns", len(rest))
				}
				write(t, w, record)
				total++
			}
			flush(t, w)
			got := q.parts(t)
			for part := range want {
				if !bytes.Equal(got[part], want[part]) {
					t.Fatalf("message %d, part %d: %s", i, part, difference(got[part], want[part]))
				}
			}
		}
		if total != wantRecords {
			t.Errorf("%d records, want %d", total, wantRecords)
		}
	})
}

// Structs give the bytes that Zeek's own records give.
func TestGolden(t *testing.T) {
	rewrite[conn](t, "cluster-logs", "conn", 1581)
	rewrite[dns](t, "cluster-logs", "dns", 139)
	rewrite[http](t, "cluster-logs", "http", 214)
	rewrite[edgeNested](t, "edge-logs", "edge_nested", 20)
}

// goType returns the simplest Go type for a recorded column.
func goType(f zeek.Field) (t reflect.Type, tag string) {
	atomic := func(typ zeek.Type) (t reflect.Type, option string) {
		switch typ {
		case zeek.TypeBool:
			return reflect.TypeFor[bool](), ""
		case zeek.TypeInt:
			return reflect.TypeFor[int64](), ""
		case zeek.TypeCount:
			return reflect.TypeFor[uint64](), ""
		case zeek.TypeDouble:
			return reflect.TypeFor[float64](), ""
		case zeek.TypeTime, zeek.TypeInterval:
			return reflect.TypeFor[float64](), "," + typ.String()
		case zeek.TypeString:
			return reflect.TypeFor[string](), ""
		case zeek.TypeEnum, zeek.TypeFile, zeek.TypeFunc:
			return reflect.TypeFor[string](), "," + typ.String()
		case zeek.TypePort:
			return portType, ""
		case zeek.TypeAddr:
			return addrType, ""
		case zeek.TypeSubnet:
			return prefixType, ""
		}
		panic(typ)
	}
	if f.Type == zeek.TypeSet || f.Type == zeek.TypeVector {
		t, tag = atomic(f.Subtype)
		t, tag = reflect.SliceOf(reflect.PointerTo(t)), tag+","+f.Type.String()
	} else {
		t, tag = atomic(f.Type)
	}
	if f.Optional {
		t = reflect.PointerTo(t)
	}
	return t, f.Name + tag
}

// For every recorded log, structs made for its columns give the recorded bytes.
func TestGoldenAll(t *testing.T) {
	for name, want := range map[string]struct{ headers, records int }{
		"cluster-logs":  {33, 3315},
		"edge-logs":     {33, 1395},
		"edge-logs-ext": {9, 158},
	} {
		t.Run(name, func(t *testing.T) {
			headers, records := map[string]bool{}, 0
			for i, m := range testkit.Messages(t, name) {
				s, recorded := decode(t, m[3])
				b, err := zeek.ParseBatch(m[3])
				if err != nil {
					t.Fatal(err)
				}
				headers[string(b.Header)] = true
				records += len(recorded)

				var fields []reflect.StructField
				for j, f := range s.Fields {
					typ, tag := goType(f)
					if !f.Optional && mandatoryUnset(recorded, j) {
						typ = reflect.PointerTo(typ) // a column of an unset record
					}
					fields = append(fields,
						reflect.StructField{Name: fmt.Sprintf("F%d", j), Type: typ,
							Tag: reflect.StructTag(fmt.Sprintf("zeek:%q", tag))})
				}
				v := reflect.New(reflect.StructOf(fields)).Elem()
				columns, cols, err := compile(v)
				if err != nil {
					t.Fatal(err)
				}
				for j := range columns {
					if mandatoryUnset(recorded, j) {
						columns[j].Optional = s.Fields[j].Optional
					}
				}
				batch, err := newBatch(string(m[1]),
					&zeek.Schema{Stream: s.Stream, Writer: s.Writer, Filter: s.Filter, Path: s.Path,
						Fields: columns}, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				oneForTrue(t, m, s, recorded)
				for _, values := range recorded {
					fillRecord(v, values)
					if batch.buf, err = cols.append(batch.buf); err != nil {
						t.Fatal(err)
					}
					batch.records++
				}
				sealed, _ := batch.seal()
				for part, want := range m {
					if got := sealed.Part(part); !bytes.Equal(got, want) {
						t.Fatalf("message %d, %s, part %d: %s", i, s.Path, part,
							difference(got, want))
					}
				}
			}
			if len(headers) != want.headers || records != want.records {
				t.Errorf("%d headers and %d records, want %d and %d", len(headers), records,
					want.headers, want.records)
			}
		})
	}
}

// mandatoryUnset reports whether a value of a column is unset.
func mandatoryUnset(records [][]zeek.Value, column int) bool {
	for _, r := range records {
		if r[column].Unset {
			return true
		}
	}
	return false
}

// oneForTrue replaces all numbers for true in a message by 1. Zeek recorded 255 for
// basic_constraints.ca in x509.
func oneForTrue(t *testing.T, m [][]byte, s *zeek.Schema, records [][]zeek.Value) {
	odd := false
	for _, r := range records {
		for i := range r {
			if r[i].Type == zeek.TypeBool && r[i].Num > 1 {
				r[i].Num = 1
				odd = true
			}
		}
	}
	if odd {
		if s.Path != "x509" {
			t.Errorf("%s has numbers above 1 for true", s.Path)
		}
		var err error
		if m[3], err = zeek.AppendBatch(nil, s, records); err != nil {
			t.Fatal(err)
		}
	}
}
