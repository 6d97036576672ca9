package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"zmtpd/pipeline/recording"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// loggerBudget is the memory budget of the logger in bytes.
const loggerBudget = 128 << 20

// burst is how many bytes the nodes send together.
const burst = 382_000_000

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

// withRealBinary lets the test start zmtpd as operators have it: the race detector multiplies
// memory.
func withRealBinary(t *testing.T) {
	t.Helper()
	dir := filepath.Dir(testkit.Build(t, "zmtpd/cmd/zmtpd"))
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// TestLoggerMemory: nodes that send as fast as they can, small batches or large ones, cost the
// logger no more memory than its budget allows, whether the disk takes what they send or nothing at
// all.
func TestLoggerMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 4 GB")
	}
	withRealBinary(t)
	source := filepath.Join(testkit.Unpack(t, "cluster-logs"), "log-writes.bin")
	files := map[string]string{
		"recorded":     source,
		"1000 a batch": largeBatches(t, source, 1000),
		"10000":        largeBatches(t, source, 10_000),
	}
	for name, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, nodes := range []int{4, 16} {
			for _, full := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/nodes=%d/full=%v", name, nodes, full), func(t *testing.T) {
					dir := t.TempDir()
					if full {
						dir = testkit.Tmpfs(t, 4<<20)
					}
					logger := startDaemon(t, "logger", "--listen", anyPort, "--dir", dir,
						"--rotate", "0", "--memory", fmt.Sprint(loggerBudget))
					repeat := fmt.Sprint(burst / int(info.Size()) / nodes)
					var senders []*process
					for range nodes {
						senders = append(senders,
							start(t, nil, "replay", file, "--push", logger.endpoint("PULL"),
								"--repeat", repeat, "--linger", "60s"))
					}
					if full {
						received, same := 0.0, 0
						testkit.Eventually(t, "the nodes to be held up", func() bool {
							now := logger.metric(`zmtpd_socket_received_messages_total{socket="pull"}`)
							if now != received || now == 0 {
								received, same = now, 0
							}
							same++
							return same > 50
						})
					} else {
						for _, s := range senders {
							if status := s.wait(); status != 0 {
								t.Fatalf("replay ended with %d: %s", status, s.stderr.String())
							}
						}
					}
					keepsTo(t, logger, loggerBudget)
					if !full {
						logger.terminate()
					}
				})
			}
		}
	}
}
