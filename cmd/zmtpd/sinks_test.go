package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// startKafka starts a Kafka cluster of one broker at a port, 0 for any, and returns its address.
func startKafka(t *testing.T, port int) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port),
		kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()[0]
}

// consumer reads a topic from its beginning.
type consumer struct {
	t      *testing.T
	client *kgo.Client
	texts  []string       // of the records, in their order
	times  map[string]int // how often each came
}

func consume(t *testing.T, broker, topic string) *consumer {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &consumer{t: t, client: client, times: map[string]int{}}
}

// readUntil reads until ok.
func (c *consumer) readUntil(what string, ok func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testkit.Patience)
	defer cancel()
	for !ok() {
		fetches := c.client.PollFetches(ctx)
		if ctx.Err() != nil {
			c.t.Fatalf("not within %v: %s; %d records have come", testkit.Patience, what,
				len(c.texts))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var record struct{ Text string }
			if err := json.Unmarshal(r.Value, &record); err != nil {
				c.t.Fatalf("%s: %v", r.Value, err)
			}
			c.texts = append(c.texts, record.Text)
			c.times[record.Text]++
		})
	}
}

func TestLoggerShipsToFilesAndKafka(t *testing.T) {
	t.Parallel()
	_, broker := startKafka(t, 0)
	dir := t.TempDir()
	d := startDaemon(t, "logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir, "--sink", "files",
		"--sink", "kafka",
		"--kafka-broker", broker, "--kafka-topic", "zeek-{path}")
	push := connect(t, d.Endpoint("PULL"))
	const messages = 200
	for i := range messages {
		if err := push.Send(testkit.Context(t),
			logMessage(t, "node-1", "test", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	c := consume(t, broker, "zeek-test")
	c.readUntil("all records", func() bool { return len(c.texts) >= messages })
	for i, text := range c.texts {
		if text != fmt.Sprint(i) {
			t.Fatalf("record %d is %s", i, text)
		}
	}
	for _, sink := range []string{"files", "kafka"} {
		testkit.Eventually(t, "the accounts of "+sink, func() bool {
			return d.Metric(fmt.Sprintf(`zmtpd_sink_written_records_total{path="test",sink=%q}`,
				sink)) == messages &&
				d.Metric(fmt.Sprintf(`zmtpd_sink_node_written_records_total{node="node-1",sink=%q}`,
					sink)) == messages &&
				d.Metric(fmt.Sprintf(`zmtpd_sink_queued_records{path="test",sink=%q}`, sink)) == 0
		})
	}
	if s := d.status().Logger; !s.Kafka.Up || s.Kafka.Records != messages {
		t.Errorf("Kafka %+v", s.Kafka)
	}
	d.Terminate()
	if got := records(t, filepath.Join(dir, "test.log")); len(got) != messages {
		t.Errorf("%d records in the log", len(got))
	}
}

// The sink stdout writes lines.
func TestLoggerWritesToStdout(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "logger", "--listen", "tcp://127.0.0.1:*", "--sink", "stdout")
	push := connect(t, d.Endpoint("PULL"))
	for i := range 3 {
		if err := push.Send(testkit.Context(t),
			logMessage(t, "node-1", "test", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"_path":"test","text":"0"}` + "\n" + `{"_path":"test","text":"1"}` + "\n" +
		`{"_path":"test","text":"2"}` + "\n"
	testkit.Eventually(t, "three lines", func() bool { return d.Stdout.String() == want })
	d.Terminate()

}

// A logger without a reader at its standard output ends with an error. What the reader did not get
// is in the spool, or counted as lost without one. Other sinks have everything.
func TestLoggerEndsWithItsReader(t *testing.T) {
	t.Parallel()
	for _, spooled := range []bool{true, false} {
		t.Run(fmt.Sprintf("spool=%v", spooled), func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			args := []string{"logger", "--listen", "ipc://" + dir + "/pull", "--http", "", "--dir",
				dir, "--sink", "stdout", "--sink", "files", "--shutdown-timeout", "20s"}
			if spooled {
				args = append(args, "--spool", filepath.Join(dir, "spool"))
			}
			var log bytes.Buffer
			cmd := exec.Command("zmtpd", args...)
			cmd.Stdout, cmd.Stderr = write, io.MultiWriter(&log, t.Output())
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			write.Close()
			read.Close()
			push := connect(t, "ipc://"+dir+"/pull")
			err = push.Send(testkit.Context(t), logMessage(t, "node-1", "test", "0"))
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the exit status is 0")
			}
			if got := records(t, filepath.Join(dir, "test.log")); !slices.Equal(got,
				[]string{"0"}) {
				t.Errorf("the log has %q", got)
			}
			says := []string{"--sink stdout", "the reader has ended",
				"stdout.dropped=1 stdout.queued=0"}
			if spooled {
				says[2] = "stdout.dropped=0 stdout.queued=1"
			}
			for _, s := range says {
				if !strings.Contains(log.String(), s) {
					t.Errorf("it does not say %q", s)
				}
			}
			if !spooled {
				return
			}
			var kept int
			s, err := spool.Open(spool.Config{Dir: filepath.Join(dir, "spool", sinkStdout)},
				func([]byte) { kept++ })
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil || kept != 1 {
				t.Errorf("%d batches in the spool, %v", kept, err)
			}
		})
	}
}

// The largest batch that Zeek may send has 1,000 records of 256,000 bytes of strings, each with
// numbers and containers of 500 elements beside them. The limit on messages has room for it, and
// the logger takes one of 70 MB.
func TestLoggerTakesLargeBatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startDaemon(t, "logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir)
	push := connect(t, d.Endpoint("PULL"))
	schema := &zeek.Schema{Stream: "Test::LOG", Writer: "Log::WRITER_ASCII", Filter: "default",
		Path: "large", Fields: []zeek.Field{{Name: "text", Type: zeek.TypeString}}}
	const records = 275
	text := zeek.String(strings.Repeat("x", 256_000))
	batch, err := zeek.AppendBatch(nil, schema, slices.Repeat([][]zeek.Value{{text}}, records))
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Send(testkit.Context(t),
		zmtp.NewMessage([]byte("log-write"), []byte("node-1"), []byte(zeek.SerializerName),
			batch)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the batch",
		func() bool { return d.status().Logger.sink(t, sinkFiles).Written.Records == records })
	if fi, err := os.Stat(filepath.Join(dir, "large.log")); err != nil ||
		fi.Size() < records*256_000 {
		t.Errorf("%v, %v", fi, err)
	}
	d.Terminate()

	var parsed cli
	parser, err := kong.New(&parsed, groups, kong.BindTo(t.Context(), (*context.Context)(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"logger"}); err != nil {
		t.Fatal(err)
	}
	if most := parsed.Logger.MaxMessageSize; most < 1000*(256_000+500*27+100*17) {
		t.Errorf("a message may have %d bytes", most)
	}
}

// A message above the limit is lost and counted, with a warning that names peer, size and limit.
func TestLoggerRefusesLargerMessage(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "logger", "--listen", "tcp://127.0.0.1:*", "--dir", t.TempDir(),
		"--max-message-size", "1MiB")
	push := connect(t, d.Endpoint("PULL"))
	if err := push.Send(testkit.Context(t), zmtp.NewMessage(make([]byte, 2<<20))); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the warning",
		func() bool { return strings.Contains(d.Stderr.String(), "message_too_large") })
	for line := range strings.Lines(d.Stderr.String()) {
		if strings.Contains(line, "message_too_large") &&
			(!strings.Contains(line, "level=WARN") || !strings.Contains(line, "peer=127.0.0.1:") ||
				!strings.Contains(line, "2097152 bytes, the limit is 1048576")) {
			t.Errorf("the warning: %s", line)
		}
	}
	if n := d.Metric(`zmtpd_socket_dropped_messages_total{reason="too_large",socket="pull"}`); n != 1 {
		t.Errorf("the metric says %v", n)
	}
	d.Terminate()
	if s := d.summary("logger"); s["refused"] != 1 {
		t.Errorf("summary %v", s)
	}
}

// Kafka is down while nodes send. Whenever the logger is killed, Kafka gets the content of its
// spool in order once it is up. Nothing else counts as recovered, and no log file has half a line.
func TestSpoolSurvivesKill(t *testing.T) {
	t.Parallel()
	kafka, broker := startKafka(t, 0)
	kafka.Close()
	_, portText, _ := net.SplitHostPort(broker)
	port, err := strconv.Atoi(portText)
	if err != nil {
		t.Fatal(err)
	}
	dir, spoolDir := t.TempDir(), t.TempDir()
	args := []string{"logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir, "--sink", "files",
		"--sink", "kafka", "--kafka-broker", broker,
		"--kafka-topic", "zeek-{path}", "--spool", spoolDir, "--sink-queue", "20KiB",
		"--shutdown-timeout", "60s"}

	var spooled []string // what the spool had after the last kill
	sent := 0
	for range 4 {
		d := startDaemon(t, args...)
		if got := d.status().Logger.sink(t,
			sinkKafka).Recovered.Messages; got != uint64(len(spooled)) {
			t.Errorf("%d messages recovered, the spool had %d", got, len(spooled))
		}
		sending, stop := context.WithCancel(t.Context())
		push := connect(t, d.Endpoint("PULL"))
		var sender sync.WaitGroup
		sender.Go(func() {
			for push.Send(sending,
				logMessage(t, "node-1", "test", fmt.Sprintf("%08d", sent))) == nil {
				sent++
			}
		})
		enough := uint64(len(spooled) + 50 + rand.IntN(3000))
		testkit.Eventually(t, "something in the spool", func() bool {
			s := d.status().Logger.sink(t, sinkKafka)
			return s.Spool.Messages >= enough
		})
		if err := d.Cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		d.Wait()
		stop()
		sender.Wait()
		push.Close()

		before := len(spooled)
		spooled = nil
		s, err := spool.Open(spool.Config{Dir: filepath.Join(spoolDir, sinkKafka)},
			func(record []byte) {
				spooled = append(spooled, string(record[len(record)-8:]))
			})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if uint64(len(spooled)) < enough || len(spooled) < before {
			t.Errorf("%d messages are in the spool, at least %d were", len(spooled), enough)
		}
	}

	startKafka(t, port)
	d := startDaemon(t, args...)
	c := consume(t, broker, "zeek-test")
	c.readUntil("all that was spooled", func() bool {
		for _, text := range spooled {
			if c.times[text] == 0 {
				return false
			}
		}
		return true
	})
	last := ""
	for _, text := range c.texts {
		if text <= last {
			t.Fatalf("%s came after %s", text, last)
		}
		last = text
	}
	testkit.Eventually(t, "an empty spool", func() bool {
		s := d.status().Logger.sink(t, sinkKafka)
		return s.Spool.Messages == 0 && !s.Spooling && s.Written.Messages == uint64(len(spooled)) &&
			s.Received == s.Written
	})
	d.Terminate()

	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no logs, %v", err)
	}
	for _, name := range files {
		for _, line := range records(t, name) {
			if n, err := strconv.Atoi(line); err != nil || len(line) != 8 || n >= sent+4 {
				t.Fatalf("%s has the line %q", name, line)
			}
		}
	}
}

// With --spool-first, the logger may be killed at any moment: what it had counted as received is in
// the log files in the end, or in a file of "aside".
func TestSpoolFirstSurvivesKill(t *testing.T) {
	t.Parallel()
	dir, spoolDir := t.TempDir(), t.TempDir()
	args := []string{"logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir, "--spool", spoolDir,
		"--spool-first"}
	counted := map[string]bool{}
	for round := range 4 {
		d := startDaemon(t, args...)
		sending, stop := context.WithCancel(t.Context())
		push := connect(t, d.Endpoint("PULL"))
		var sender sync.WaitGroup
		text := func(i int) string { return fmt.Sprintf("%d-%07d", round, i) }
		sender.Go(func() {
			for i := 0; push.Send(sending, logMessage(t, "node-1", "test", text(i))) == nil; i++ {
			}
		})
		received := uint64(0)
		enough := uint64(1 + rand.IntN(3000))
		testkit.Eventually(t, "enough messages", func() bool {
			s := d.status().Logger.sink(t, sinkFiles)
			received = s.Received.Messages - s.Recovered.Messages
			return received >= enough
		})
		if err := d.Cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		d.Wait()
		stop()
		sender.Wait()
		push.Close()
		for i := range received { // one connection, so the first ones
			counted[text(int(i))] = true
		}
	}
	d := startDaemon(t, args...)
	testkit.Eventually(t, "an empty spool", func() bool {
		s := d.status().Logger.sink(t, sinkFiles)
		return s.Queued.Messages == 0 && s.Spool.Messages == 0
	})
	d.Terminate()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, name := range names {
		for _, line := range records(t, name) {
			got[line] = true
		}
	}
	// A batch that was being delivered at two kills may be set aside.
	names, err = filepath.Glob(filepath.Join(spoolDir, sinkFiles, "aside", "*"))
	if err != nil {
		t.Fatal(err)
	}
	aside := ""
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		aside += string(content)
	}
	for text := range counted {
		if !got[text] && !strings.Contains(aside, text) {
			t.Errorf("%s was counted as received and is lost", text)
		}
	}
}

// If Kafka is down at the end, the spool keeps the rest and the end is orderly. Without a spool the
// rest is lost and the end is an error.
func TestLoggerEndsWithKafkaDown(t *testing.T) {
	t.Parallel()
	kafka, broker := startKafka(t, 0)
	kafka.Close()
	for _, spooled := range []bool{true, false} {
		args := []string{"logger", "--listen", "tcp://127.0.0.1:*", "--sink", "kafka",
			"--kafka-broker", broker, "--shutdown-timeout", "2s"}
		if spooled {
			args = append(args, "--spool", t.TempDir())
		}
		d := startDaemon(t, args...)
		push := connect(t, d.Endpoint("PULL"))
		for i := range 10 {
			if err := push.Send(testkit.Context(t),
				logMessage(t, "node-1", "test", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Eventually(t, "the messages",
			func() bool { return d.status().Logger.Received.Messages == 10 })
		d.Signal(os.Interrupt)
		if status := d.Wait(); (status == 0) != spooled {
			t.Errorf("spool=%v: exit status %d", spooled, status)
		}
		s := d.summary("logger")
		if spooled && s["kafka.queued"] != 10 || !spooled && s["kafka.dropped"] != 10 {
			t.Errorf("spool=%v: summary %v", spooled, s)
		}
	}
}

// Flags that make no sense are an error at the start.
func TestSinkFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		says string
	}{
		{"--sink kafka", "--kafka-broker"},
		{"--kafka-broker a:1", "without --sink kafka"},
		{"--sink files --sink files", "twice"},
		{"--spool-full drop-oldest", "without --spool"},
		{"--spool-first", "without --spool"},
		{"--sink kafka --kafka-broker a:1 --kafka-tls-ca x", "without --kafka-tls"},
		{"--sink kafka --kafka-broker a:1 --kafka-user u", "--kafka-password-file"},
		{"--sink kafka --kafka-broker a:1 --kafka-key uid", "field:uid"},
		{"--sink kafka --kafka-broker a:b", "port"},
		{"--sink nowhere", "nowhere"},
	} {
		args := append([]string{"logger", "--listen", anyPort, "--http", "", "--dir", t.TempDir()},
			strings.Fields(c.args)...)
		if status, _, stderr := runHere(t, nil, args...); status == 0 ||
			!strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit status %d, %s", c.args, status, stderr)
		}
	}
}
