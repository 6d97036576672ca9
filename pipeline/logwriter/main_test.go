package logwriter

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// decode returns schema and records of a batch.
func decode(tb testing.TB, raw []byte) (*zeek.Schema, [][]zeek.Value) {
	tb.Helper()
	b, err := zeek.ParseBatch(raw)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := zeek.ParseSchema(b.Header)
	if err != nil {
		tb.Fatal(err)
	}
	records, err := zeek.DecodeRecords(b, s)
	if err != nil {
		tb.Fatal(err)
	}
	return s, records
}

// fillRecord sets the struct in v, or to which v points, to the values of a record. It returns the
// remaining values.
func fillRecord(v reflect.Value, values []zeek.Value) []zeek.Value {
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		rest := fillRecord(p.Elem(), values)
		if slices.ContainsFunc(values[:len(values)-len(rest)],
			func(v zeek.Value) bool { return !v.Unset }) {
			v.Set(p)
		}
		return rest
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("zeek") == "-" {
			continue
		}
		field := v.Field(i)
		target := field.Type()
		if target.Kind() == reflect.Pointer {
			target = target.Elem()
		}
		if isRecord(target) {
			values = fillRecord(field, values)
			continue
		}
		set(field, values[0])
		values = values[1:]
	}
	return values
}

// set sets v to one value.
func set(v reflect.Value, value zeek.Value) {
	if value.Unset {
		v.SetZero()
		return
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		set(p.Elem(), value)
		v.Set(p)
		return
	}
	double := math.Float64frombits(value.Num)
	switch value.Type {
	case zeek.TypeBool:
		v.SetBool(value.Num != 0)
	case zeek.TypeInt:
		v.SetInt(int64(value.Num))
	case zeek.TypeCount:
		v.SetUint(value.Num)
	case zeek.TypeDouble:
		v.SetFloat(double)
	case zeek.TypeTime:
		if v.Type() == timeType {
			seconds, fraction := math.Modf(double)
			v.Set(reflect.ValueOf(time.Unix(int64(seconds), int64(math.Round(fraction*1e9)))))
		} else {
			v.SetFloat(double)
		}
	case zeek.TypeInterval:
		v.SetFloat(double)
	case zeek.TypeString, zeek.TypeEnum, zeek.TypeFile, zeek.TypeFunc:
		if v.Kind() == reflect.Slice {
			v.SetBytes([]byte(value.Text))
		} else {
			v.SetString(value.Text)
		}
	case zeek.TypePort:
		v.Set(reflect.ValueOf(Port{uint16(value.Num), value.Proto}))
	case zeek.TypeAddr:
		v.Set(reflect.ValueOf(value.Addr))
	case zeek.TypeSubnet:
		bits := int(value.Num)
		if value.Addr.Is4() {
			bits -= 96
		}
		v.Set(reflect.ValueOf(netip.PrefixFrom(value.Addr, bits)))
	case zeek.TypeSet, zeek.TypeVector:
		v.Set(reflect.MakeSlice(v.Type(), len(value.Elems), len(value.Elems)))
		for i, e := range value.Elems {
			set(v.Index(i), e)
		}
	default:
		panic(value.Type)
	}
}

// queue is a Sender with room for some messages.
type queue chan zmtp.Message

func (q queue) Send(ctx context.Context, m zmtp.Message) error {
	select {
	case q <- m:
		return nil
	default:
	}
	select {
	case q <- m:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// parts returns the parts of the next message, which must be in the queue.
func (q queue) parts(tb testing.TB) [][]byte {
	tb.Helper()
	select {
	case m := <-q:
		return m.AppendParts(nil)
	default:
		tb.Fatal("no message was sent")
		return nil
	}
}

// discard is a Sender that always has room.
type discard struct{}

func (discard) Send(context.Context, zmtp.Message) error { return nil }

// newWriter returns a Writer that is closed at the end of the test.
func newWriter[T any](tb testing.TB, s Sender, cfg Config) *Writer[T] {
	tb.Helper()
	if cfg.Node == "" {
		cfg.Node, cfg.Stream, cfg.Path = "node", "Test::LOG", "test"
	}
	w, err := New[T](s, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.Close(ctx)
	})
	return w
}

func write[T any](tb testing.TB, w *Writer[T], records ...T) {
	tb.Helper()
	for _, r := range records {
		if err := w.Write(tb.Context(), r); err != nil {
			tb.Fatal(err)
		}
	}
}

func flush(tb testing.TB, w interface{ Flush(context.Context) error }) {
	tb.Helper()
	if err := w.Flush(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// difference shows where two batches differ.
func difference(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	from := max(0, i-20)
	return fmt.Sprintf("byte %d\n got …%q\nwant …%q", i, got[from:min(len(got), i+40)],
		want[from:min(len(want), i+40)])
}
