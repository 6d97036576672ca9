package fuzz_test

import (
	"bytes"
	"fmt"
	"testing"

	"zmtpd/pipeline/zeek"
)

// The seeds in testdata/logbatch are batches of real Zeek workers, the smallest of each log path.

// A batch is refused, and then not rendered, or it decodes to values, and a batch of these values
// renders to the same text. The memory for it is in proportion to the batch.
func FuzzLogBatch(f *testing.F) {
	addSeeds(f)
	asJSON := zeek.DefaultOptions()
	asJSON.UseJSON = true
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := zeek.ParseBatch(b)
		if err != nil {
			return
		}
		if batch.NumRecords*batch.NumFields > len(b) {
			t.Fatalf("%d records of %d fields in %d bytes", batch.NumRecords, batch.NumFields,
				len(b))
		}
		schema, err := zeek.ParseSchema(batch.Header)
		if err != nil {
			t.Fatalf("ParseSchema refuses the header of an accepted batch: %v", err)
		}
		if err := schema.Validate(); err != nil {
			t.Fatalf("Validate refuses the schema of an accepted batch: %v", err)
		}
		values, err := zeek.DecodeRecords(batch, schema)
		decoded := err == nil
		var encoded []byte
		if decoded {
			if encoded, err = zeek.AppendBatch(nil, schema, values); err != nil &&
				!mixedElements(schema, values) {
				t.Fatalf("the decoded records cannot be encoded: %v", err)
			}
		}
		for name, opts := range map[string]zeek.Options{
			"TSV": zeek.DefaultOptions(), "JSON": asJSON,
		} {
			text, err := render(t, schema, opts, batch)
			if (err == nil) != decoded {
				t.Fatalf("decoding returns %v, rendering as %s returns %v", decoded, name, err)
			}
			if len(text) > textLimit(batch, schema, len(b)) {
				t.Fatalf("%d bytes of %s from a batch of %d", len(text), name, len(b))
			}
			if encoded == nil {
				continue
			}
			batch, err := zeek.ParseBatch(encoded)
			if err != nil {
				t.Fatalf("the encoded batch is refused: %v", err)
			}
			if again, err := render(t, schema, opts, batch); err != nil ||
				!bytes.Equal(again, text) {
				t.Fatalf("%s was\n%s\nand is, encoded anew,\n%s\n%v", name, text, again, err)
			}
		}
	})
}

func render(t *testing.T, schema *zeek.Schema, opts zeek.Options, batch zeek.Batch) ([]byte,
	error) {
	r, err := zeek.NewRenderer(schema, opts)
	if err != nil {
		t.Fatalf("no renderer for the schema of an accepted batch: %v", err)
	}
	dst := []byte("before")
	out, records, err := r.AppendRecords(dst, batch)
	if err != nil && (records != 0 || !bytes.Equal(out, dst)) {
		t.Fatalf("failed with %v and rendered %d records: %q", err, records, out)
	}
	if err == nil && records != batch.NumRecords {
		t.Fatalf("%d of %d records are rendered", records, batch.NumRecords)
	}
	text, ok := bytes.CutPrefix(out, dst)
	if !ok {
		t.Fatalf("the text is not appended: %q", out)
	}

	var pieces []byte
	rest, _, pieceErr := r.RenderRecords(nil, batch, func(piece []byte) ([]byte, error) {
		if err != nil {
			t.Fatalf("a piece of a refused batch is handed over: %v", err)
		}
		pieces = append(pieces, piece...)
		return piece[:0], nil
	})
	if pieces = append(pieces, rest...); fmt.Sprint(pieceErr) != fmt.Sprint(err) ||
		!bytes.Equal(pieces, text) {
		t.Fatalf("in pieces the text is\n%s\nand in one\n%s\nerrors %v and %v", pieces, text,
			pieceErr, err)
	}
	return text, err
}

// mixedElements reports whether a set or vector has elements of another type than the column's
// subtype. Zeek accepts and renders them, but never sends them.
func mixedElements(schema *zeek.Schema, values [][]zeek.Value) bool {
	for _, record := range values {
		for i, v := range record {
			for _, e := range v.Elems {
				if e.Type != schema.Fields[i].Subtype {
					return true
				}
			}
		}
	}
	return false
}

// textLimit is the largest possible text of a batch: the names of the columns in each record (JSON,
// where a byte may become six), a number with all its digits for each value or element, and all
// bytes escaped.
func textLimit(batch zeek.Batch, schema *zeek.Schema, size int) int {
	record := 16
	for _, f := range schema.Fields {
		record += 6*len(f.Name) + 8
	}
	const number = 400
	return batch.NumRecords*record + size/4*number + 6*size
}

// Seeds that are refused would test nothing but the refusal.
func TestLogBatchSeeds(t *testing.T) {
	for _, b := range corpora["FuzzLogBatch"](t) {
		batch, err := zeek.ParseBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		schema, err := zeek.ParseSchema(batch.Header)
		if err != nil {
			t.Fatal(err)
		}
		if values, err := zeek.DecodeRecords(batch, schema); err != nil || len(values) == 0 {
			t.Errorf("%s: %d records, %v", schema.Path, len(values), err)
		}
	}
}
