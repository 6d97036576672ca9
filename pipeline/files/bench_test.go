package files

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// recordedConn returns a message of about records recorded conn records, as a node under load would
// send, and their exact number. The recorded batches are small.
func recordedConn(tb testing.TB, records int) (batch []byte, n int) {
	tb.Helper()
	var header, values []byte
	for n < records {
		for _, m := range testkit.Messages(tb, "cluster-logs") {
			b, err := zeek.ParseBatch(m[3])
			if err != nil {
				tb.Fatal(err)
			}
			if string(b.Path) == "conn" && n < records {
				header = b.Header
				values = append(values, b.Values...)
				n += b.NumRecords
			}
		}
	}
	batch = binary.BigEndian.AppendUint32(header[:len(header):len(header)], uint32(n))
	return append(batch, values...), n
}

// reportCost reports the CPU seconds for a million records. On a machine with other work the
// elapsed time means nothing.
func reportCost(b *testing.B, cpu time.Duration, records int) {
	b.ReportMetric(cpu.Seconds()/float64(records)*1e6, "CPU-s/M-records")
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.Sys)/(1<<20), "MB-sys")
}

func benchmarkConfigs(b *testing.B, run func(b *testing.B, cfg Config, senders int)) {
	for _, format := range []string{"tsv", "json"} {
		for _, senders := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s/senders=%d", format, senders), func(b *testing.B) {
				o := redef.DefaultOptions()
				o.Format.UseJSON = format == "json"
				run(b, Config{Dir: b.TempDir(), Options: o}, senders)
			})
		}
	}
}

// BenchmarkLogger writes conn records from memory to a file.
func BenchmarkLogger(b *testing.B) {
	batch, records := recordedConn(b, benchRecords)
	benchmarkConfigs(b, func(b *testing.B, cfg Config, senders int) {
		l, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		before := cpuTime(b)
		var all sync.WaitGroup
		for s := range senders {
			all.Go(func() {
				node := fmt.Appendf(nil, "node-%d", s)
				for range b.N {
					if err := l.WriteBatch(context.Background(), node, batch); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
		if err := l.Close(b.Context()); err != nil {
			b.Error(err)
		}
		reportCost(b, cpuTime(b)-before, b.N*records*senders)
	})
}

// BenchmarkReceiver writes conn records that another process sends over TCP to a file.
func BenchmarkReceiver(b *testing.B) {
	_, records := recordedConn(b, benchRecords)
	benchmarkConfigs(b, func(b *testing.B, cfg Config, senders int) {
		l, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		pull := zmtp.NewPull(zmtp.Config{RecvBytes: 8 << 20})
		endpoint, err := pull.Listen("tcp://127.0.0.1:*")
		if err != nil {
			b.Fatal(err)
		}
		o, err := pipeline.NewOutlet(l, pipeline.OutletConfig{Name: "files"})
		if err != nil {
			b.Fatal(err)
		}
		r := pipeline.Serve(pull, nil, o)
		b.ReportAllocs()
		b.ResetTimer()
		before := cpuTime(b)
		var all sync.WaitGroup
		for s := range senders {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), benchEnv+"="+endpoint,
				fmt.Sprintf("%s_NODE=node-%d", benchEnv, s), fmt.Sprintf("%s_N=%d", benchEnv, b.N))
			child.Stderr = os.Stderr
			all.Go(func() {
				if err := child.Run(); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		if err := r.Shutdown(b.Context()); err != nil {
			b.Error(err)
		}
		if err := o.Close(b.Context()); err != nil {
			b.Error(err)
		}
		st := l.Stats()
		reportCost(b, cpuTime(b)-before, int(st.Written.Records))
		if want := uint64(b.N * records * senders); st.Written.Records != want {
			b.Errorf("%d records written, want %d", st.Written.Records, want)
		}
	})
}

const (
	benchEnv     = "PIPELINE_BENCH_ENDPOINT"
	benchRecords = 1000
)

// benchChild is a node that sends as fast as it can.
func benchChild(endpoint string) error {
	var tb testing.B
	batch, _ := recordedConn(&tb, benchRecords)
	n, err := strconv.Atoi(os.Getenv(benchEnv + "_N"))
	if err != nil {
		return err
	}
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	if err := push.Connect(endpoint); err != nil {
		return err
	}
	m := zmtp.NewMessage([]byte("log-write"), []byte(os.Getenv(benchEnv+"_NODE")),
		[]byte(zeek.SerializerName), batch)
	for range n {
		if err := push.Send(context.Background(), m); err != nil {
			return err
		}
	}
	return push.Shutdown(context.Background())
}
