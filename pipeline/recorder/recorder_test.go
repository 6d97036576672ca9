package recorder

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// After Close the file has all messages up to the size limit; the rest is counted. The batches are
// released before they are written.
func TestRecorderWritesUpToItsLimit(t *testing.T) {
	pull := zmtp.NewPull(zmtp.Config{})
	defer pull.Close()
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	const n, size = 10, 4 + 4 + 3
	name := filepath.Join(t.TempDir(), "recording")
	r, err := Open(name, 7*size, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := push.Send(t.Context(),
			zmtp.NewMessageString(fmt.Sprintf("%03d", i))); err != nil {
			t.Fatal(err)
		}
	}
	for got := 0; got < n; {
		b, err := pull.RecvBatch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got += b.Len()
		r.Take(b, []zmtp.Run{{From: 0, To: b.Len()}})
		b.Release()
	}
	r.Close()
	if st := r.Stats(); st.Written != 7 || st.Size != 7*size || st.QueuedBytes != 0 ||
		st.Dropped[SizeLimit] != n-7 {
		t.Errorf("%+v", st)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	i := 0
	for parts, err := range recording.NewReader(f).All() {
		if err != nil || len(parts) != 1 || string(parts[0]) != fmt.Sprintf("%03d", i) {
			t.Fatalf("message %d: %q, %v", i, parts, err)
		}
		i++
	}
	if i != 7 {
		t.Errorf("the file has %d messages", i)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(name, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(name, 0, slog.New(slog.DiscardHandler)); err == nil {
		r.Close()
		t.Error("a file that is not a recording was opened")
	}
}
