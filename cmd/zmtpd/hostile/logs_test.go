//go:build linux

package hostile

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"zmtpd/pipeline/pipelinetest"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// evil is the id of the attacking node.
const evil = "evil-1"

// batch returns a log message of the attacking node.
func batch(t *testing.T, schema zeek.Schema, records [][]zeek.Value) zmtp.Message {
	t.Helper()
	schema.Writer, schema.Filter = "Log::WRITER_ASCII", "default"
	b, err := zeek.AppendBatch(nil, &schema, records)
	if err != nil {
		t.Fatal(err)
	}
	return zmtp.NewMessage([]byte("log-write"), []byte(evil), []byte(zeek.SerializerName), b)
}

// text returns a log message of the attacking node with one record.
func text(t *testing.T, stream, path, columns string) zmtp.Message {
	t.Helper()
	return zmtp.NewMessage(pipelinetest.Message(t, evil, stream, path, columns, "evil")...)
}

// sendAll sends messages in turn until ctx ends. It must send each at least once.
func sendAll(t *testing.T, ctx context.Context, endpoint string, pause time.Duration,
	messages ...zmtp.Message) {
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(endpoint); err != nil {
		t.Error(err)
		return
	}
	for {
		for _, m := range messages {
			if push.Send(ctx, m) != nil {
				return
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// longName returns a log message with a column whose name has size bytes. zeek.AppendBatch refuses
// such names.
func longName(size, records int) zmtp.Message {
	var b []byte
	number := func(n int) { b = binary.BigEndian.AppendUint32(b, uint32(n)) }
	str := func(s string) { number(len(s)); b = append(b, s...) }
	for _, s := range []string{"Evil::LOG", "Log::WRITER_ASCII", "default", "evil"} {
		str(s)
	}
	number(1)
	b = append(b, 0) // no secondary name
	str(strings.Repeat("n", size))
	number(int(zeek.TypeCount))
	number(int(zeek.TypeVoid))
	b = append(b, 0) // not optional
	number(records)
	for i := range records {
		number(int(zeek.TypeCount))
		number(0)
		b = binary.BigEndian.AppendUint64(append(b, 1), uint64(i))
	}
	return zmtp.NewMessage([]byte("log-write"), []byte(evil), []byte(zeek.SerializerName), b)
}

// small records with a large text
func TestRendering(t *testing.T) {
	beside(t)
	var huge [][]zeek.Value
	for range scaled(4<<20, 60<<20) / 17 {
		huge = append(huge, []zeek.Value{zeek.Double(math.MaxFloat64)})
	}
	for attack, m := range map[string]zmtp.Message{
		"long column names": longName(60_000, scaled(2000, 20_000)),
		"large doubles": batch(t,
			zeek.Schema{Stream: "Evil::LOG", Path: "evil",
				Fields: []zeek.Field{{Name: "d", Type: zeek.TypeDouble}}}, huge),
	} {
		for _, format := range []string{"tsv", "json"} {
			t.Run(attack+"/"+format, func(t *testing.T) {
				beside(t)
				p := startLogger(t, t.TempDir(), "--format", format)
				a := assault{
					name: attack, daemon: "logger",
					inputs:  fmt.Sprintf("batches of %d kB, %s", len(m.Wire())/1000, format),
					process: p, honest: startLogs(t, p, p.Endpoint("PULL"), zmtp.Config{}),
				}
				a.run = func(t *testing.T,
					ctx context.Context) {
					sendAll(t, ctx, p.Endpoint("PULL"), time.Second, m)
				}
				a.start(t)
			})
		}
	}
}

// Batches that one node sends first must not take the place of other nodes' logs.
func TestHarmToOthersLogs(t *testing.T) {
	beside(t)
	var schemas, paths []zmtp.Message
	for i := range 50 {
		schemas = append(schemas, text(t, "Evil::dns", "dns", fmt.Sprintf("odd%d who what", i)))
	}
	for i := range scaled(1000, 3000) {
		paths = append(paths, text(t, "Evil::LOG", fmt.Sprintf("path-%d", i), "who"))
	}
	for name, messages := range map[string][]zmtp.Message{
		"paths below a log": {text(t, "Evil::LOG", "conn.log/x", "who"),
			text(t, "Evil::LOG", "dns.log/http.log/x", "who")},
		"odd schemas on dns": schemas,
		"a thousand paths":   paths,
		"streams that begin first": {text(t, "Evil::LOG", "http", "who what"),
			text(t, "Evil::conn", "conn", "evil")},
		"paths that look like others": {text(t, "Evil::LOG", "./conn", "who"),
			text(t, "Evil::LOG", "x/../dns", "who"), text(t, "Evil::LOG", "http.log", "who")},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			dir := t.TempDir()
			p := startLogger(t, dir, "--max-logs-per-node", "100")
			ctx, cancel := context.WithCancel(t.Context())
			first := make(chan struct{})
			go func() {
				defer close(first)
				sendAll(t, ctx, p.Endpoint("PULL"), time.Minute,
					messages...)
			}()
			var s struct {
				Logger struct{ Received struct{ Messages int } }
			}
			testkit.Eventually(t, "the attacking node has begun first", func() bool {
				p.Status(&s)
				return s.Logger.Received.Messages == len(messages)
			})
			cancel()
			<-first

			a := assault{
				name: name, daemon: "logger",
				inputs: fmt.Sprintf("%d batches before honest ones, then again and again",
					len(messages)),
				process: p, honest: startLogs(t, p, p.Endpoint("PULL"), zmtp.Config{}),
			}
			a.run = func(t *testing.T, ctx context.Context) {
				sendAll(t, ctx, p.Endpoint("PULL"), time.Millisecond, messages...)
			}
			a.start(t)
			written := a.honest.got()
			p.Signal(os.Interrupt)
			p.Wait() // its exit status is 1 if it has refused a batch
			lines := 0
			for _, log := range honestLogs {
				files, err := filepath.Glob(filepath.Join(dir, log+".*log"))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range files {
					content, err := os.ReadFile(file)
					if err != nil {
						t.Error(err)
					}
					n := strings.Count(string(content), "honest\thonest\n")
					if n == 0 && filepath.Base(file) == log+".log" {
						t.Errorf("no honest records in %s.log", log)
					}
					// Before the vote of the nodes is decided, honest records go to a file of their
					// stream.
					if ours := log + ".Honest_" + log; n > 0 && filepath.Base(file) != log+".log" &&
						!strings.HasPrefix(filepath.Base(file), ours) {
						t.Errorf("%d honest records in %s", n, file)
					}
					lines += n
				}
			}
			if lines != written {
				t.Errorf("the honest nodes' logs have %d records, %d were written", lines,
					written)
			}
			if !strings.Contains(p.Stderr.String(), evil) {
				t.Error("the log does not name the attacking node")
			}
		})
	}
}

// A batch that does not fit into the spool is refused, counted and named, and costs no processor
// time.
func TestBatchLargerThanSpool(t *testing.T) {
	beside(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	never, err := os.OpenFile(fifo, os.O_RDWR, 0) // keeps the pipe open, and reads nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { never.Close() }) // behind the check of the accounts, which needs the daemon
	p := testkit.StartDaemon(t, "sh", "-c", `exec "$0" "$@" >`+fifo, zmtpd, "logger", budgetFlag,
		"--dir", dir, "--flush-interval", "50ms",
		"--sink", "files", "--sink", "stdout", "--sink-queue", "1MiB", "--spool",
		filepath.Join(dir, "spool"), "--spool-bytes", "1MiB", "--spool-full", "drop-oldest")
	var records [][]zeek.Value
	for range 40 {
		records = append(records, []zeek.Value{zeek.String(strings.Repeat("x", 64<<10))})
	}
	m := batch(t, zeek.Schema{Stream: "Evil::LOG", Path: "evil",
		Fields: []zeek.Field{{Name: "s", Type: zeek.TypeString}}}, records)
	a := assault{
		name: "batch larger than the spool", daemon: "logger",
		inputs:  "2.5 MB, spool of 1 MiB, stdout is not read",
		process: p, honest: startLogs(t, p, p.Endpoint("PULL"), zmtp.Config{}), calm: true,
	}
	a.run = func(t *testing.T, ctx context.Context) {
		sendAll(t, ctx, p.Endpoint("PULL"), attack(),
			m)
	}
	a.start(t)
}

// Post-processors that hang delay at most those of their own logs.
func TestHungPostprocessors(t *testing.T) {
	beside(t)
	dir := t.TempDir()
	hold, done := filepath.Join(dir, "hold"), filepath.Join(dir, "done")
	script := filepath.Join(dir, "postprocess")
	if err := os.WriteFile(hold, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script,
		[]byte("#!/bin/sh\ncase \"$2\" in hung*) while [ -e "+hold+" ]; do sleep 0.2; done;; *) "+
			"echo \"$2\" >>"+done+";; esac\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(hold) })
	p := startLogger(t, dir, "--rotate", "1s", "--postprocessor-timeout", "1s", "--redef",
		"Log::default_rotation_postprocessor_cmd="+script)
	var messages []zmtp.Message
	for i := range 40 {
		messages = append(messages, text(t, "Evil::LOG", fmt.Sprintf("hung%d", i), "who"))
	}
	a := assault{
		name: "hung post-processors", daemon: "logger",
		inputs:  fmt.Sprintf("%d logs", len(messages)),
		process: p, honest: startLogs(t, p, p.Endpoint("PULL"), zmtp.Config{}), calm: true,
	}
	a.run = func(t *testing.T, ctx context.Context) {
		sendAll(t, ctx, p.Endpoint("PULL"), time.Second, messages...)
		before := strings.Count(read(t, done), "\n")
		deadline := time.Now().Add(testkit.Patience)
		for strings.Count(read(t, done), "\n") <= before+len(honestLogs) {
			if time.Now().After(deadline) {
				t.Errorf("no post-processor is called for honest logs within %v", testkit.Patience)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	a.start(t)
}

// read returns the content of a file, or "" if there is none.
func read(t *testing.T, file string) string {
	content, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	return string(content)
}
