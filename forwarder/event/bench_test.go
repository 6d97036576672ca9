package event

import "testing"

// BenchmarkRecorded handles the recorded events, all of them in each round; the numbers are of one
// event.
func BenchmarkRecorded(b *testing.B) {
	bin, json := recorded(b, "bin.bin"), recorded(b, "json.bin")
	values := make([]any, len(bin))
	for i := range bin {
		values[i] = Raw(bin[i]).Value()
	}
	var buf []byte
	for name, each := range map[string]func(i int) error{
		"parse": func(i int) error { _, err := ParseEvent(bin[i]); return err },
		"value": func(i int) error { _ = Raw(bin[i]).Value(); return nil },
		"append": func(i int) (err error) {
			buf, err = Append(buf[:0], values[i])
			return err
		},
		"to JSON": func(i int) error { buf = AppendJSON(buf[:0], bin[i]); return nil },
		"from JSON": func(i int) (err error) {
			buf, err = ParseJSON(buf[:0], json[i])
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := each(i); err != nil {
					b.Fatal(err)
				}
				i = (i + 1) % len(bin)
			}
		})
	}
}

// BenchmarkHello handles one small event, as most are.
func BenchmarkHello(b *testing.B) {
	hello := func(dst []byte) []byte {
		dst, err := AppendEvent(dst, "Cluster::Backend::ZeroMQ::hello",
			[]any{"worker-1", "zeromq_worker-1_host1_4711_NABC"})
		if err != nil {
			b.Fatal(err)
		}
		return dst
	}
	buf := hello(nil)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			e, err := ParseEvent(buf)
			if err != nil {
				b.Fatal(err)
			}
			for arg := range e.Args.Elements() {
				text, _ := arg.Text()
				n += len(text)
			}
		}
	})
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = hello(buf[:0])
		}
	})
}
