package zeek_test

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"zmtpd/pipeline/zeek"
)

// The example makes a batch, as a node does, and renders it, as a logger does.
func Example() {
	schema := &zeek.Schema{
		Stream: "Conn::LOG", Writer: "Log::WRITER_ASCII", Filter: "default", Path: "conn",
		Fields: []zeek.Field{
			{Name: "ts", Type: zeek.TypeTime},
			{Name: "id.orig_h", Type: zeek.TypeAddr},
			{Name: "service", Type: zeek.TypeString, Optional: true},
			{Name: "tunnel_parents", Type: zeek.TypeSet, Subtype: zeek.TypeString, Optional: true},
		},
	}
	raw, err := zeek.AppendBatch(nil, schema, [][]zeek.Value{
		{
			zeek.Time(1700000000.25),
			zeek.Addr(netip.MustParseAddr("10.1.2.3")),
			zeek.Unset(zeek.TypeString),
			zeek.Set(zeek.String("a,b"), zeek.String("c")),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	batch, err := zeek.ParseBatch(raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	parsed, err := zeek.ParseSchema(batch.Header) // once for each distinct header
	if err != nil {
		fmt.Println(err)
		return
	}
	opts := zeek.DefaultOptions()
	opts.Separator = "|"
	renderer, err := zeek.NewRenderer(parsed, opts) // once for each path
	if err != nil {
		fmt.Println(err)
		return
	}
	text := renderer.AppendHeader(nil, time.Date(2023, 11, 14, 22, 0, 0, 0, time.UTC))
	text, _, err = renderer.AppendRecords(text, batch)
	if err != nil {
		fmt.Println(err)
		return
	}
	text = renderer.AppendFooter(text, time.Date(2023, 11, 14, 23, 0, 0, 0, time.UTC))
	os.Stdout.Write(text)
	// Output:
	// #separator |
	// #set_separator|,
	// #empty_field|(empty)
	// #unset_field|-
	// #path|conn
	// #open|2023-11-14-22-00-00
	// #fields|ts|id.orig_h|service|tunnel_parents
	// #types|time|addr|string|set[string]
	// 1700000000.250000|10.1.2.3|-|a\x2cb,c
	// #close|2023-11-14-23-00-00
}
