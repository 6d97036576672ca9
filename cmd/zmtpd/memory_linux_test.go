package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"zmtpd/pipeline/recording"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// loggerBudget is the memory budget of the logger in bytes.
const loggerBudget = 64 << 20

// burst is the number of bytes that all nodes send together, which is far more than the budget.
const burst = 3 * loggerBudget

// largeBatches is a recording of a message of conn records, as many as a node under load collects,
// made of recorded ones.
func largeBatches(t *testing.T, source string, records int) (file string) {
	t.Helper()
	content, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	var header, values []byte
	n := 0
	for n < records {
		for m, err := range recording.NewReader(bytes.NewReader(content)).All() {
			if err != nil {
				t.Fatal(err)
			}
			b, err := zeek.ParseBatch(m[3])
			if err != nil {
				t.Fatal(err)
			}
			if string(b.Path) == "conn" && n < records {
				header = bytes.Clone(b.Header)
				values = append(values, b.Values...)
				n += b.NumRecords
			}
		}
	}
	batch := append(binary.BigEndian.AppendUint32(header, uint32(n)), values...)
	all, err := recording.AppendMessage(nil, []byte("log-write"), []byte("node"),
		[]byte(zeek.SerializerName), batch)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), fmt.Sprint(records))
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The logger keeps to its memory budget while nodes send small or large batches as fast as they
// can, with a working disk and with one that takes nothing.
func TestLoggerMemory(t *testing.T) {
	t.Parallel()
	zmtpd := operators(t)
	source := filepath.Join(testkit.Unpack(t, "cluster-logs"), "log-writes.bin")
	files := map[string]string{
		"recorded":     source,
		"1000 a batch": largeBatches(t, source, 1000),
		"10000":        largeBatches(t, source, 10_000),
	}
	type load struct {
		name  string
		nodes int
		full  bool // the disk, so that nothing is written
	}
	loads := []load{{"recorded", 16, false}, {"1000 a batch", 16, true}, {"10000", 4, false}}
	if testkit.Nightly() {
		loads = nil
		for name := range files {
			loads = append(loads, load{name, 4, false}, load{name, 4, true},
				load{name, 16, false}, load{name, 16, true})
		}
	}
	for _, l := range loads {
		t.Run(fmt.Sprintf("%s/nodes=%d/full=%v", l.name, l.nodes, l.full), func(t *testing.T) {
			info, err := os.Stat(files[l.name])
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if l.full {
				dir = testkit.Tmpfs(t, 4<<20)
			}
			logger := zmtpd.startDaemon(t, "logger", "--listen", anyPort, "--dir", dir, "--rotate",
				"0", "--memory", fmt.Sprint(loggerBudget))
			repeat := fmt.Sprint(burst / int(info.Size()) / l.nodes)
			var senders []*process
			for range l.nodes {
				senders = append(senders, zmtpd.start(t, nil, "replay", files[l.name], "--push",
					logger.Endpoint("PULL"), "--repeat", repeat, "--linger", "10m"))
			}
			if !l.full {
				for _, s := range senders {
					testkit.Within(t, 10*time.Minute, "the end of what a node sends",
						s.hasEnded)
					if status := s.Wait(); status != 0 {
						t.Fatalf("replay ended with %d: %s", status, s.Stderr.String())
					}
				}
				keepsTo(t, logger, loggerBudget)
				logger.Terminate()
				return
			}
			received, same := 0.0, 0
			testkit.Eventually(t, "the nodes to be held up", func() bool {
				now := logger.Metric(`zmtpd_socket_received_messages_total{socket="pull"}`)
				if now != received || now == 0 {
					received, same = now, 0
				}
				same++
				return same > 50
			})
			keepsTo(t, logger, loggerBudget)
		})
	}
}
