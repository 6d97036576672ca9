package sqlite

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("ZMTPD_TEST_STORE"); path != "" {
		writeForever(path)
		return
	}
	os.Exit(m.Run())
}

func open1(t testing.TB, path string, sync store.Sync) *store.Store {
	t.Helper()
	b, err := Open(path, sync)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Config{Name: "test", Backend: b, Sync: sync})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// shell runs the sqlite3 shell.
func shell(t testing.TB, path, script string) string {
	t.Helper()
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("there is no sqlite3 shell")
	}
	out, err := exec.Command("sqlite3", path, script).CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestReopen(t *testing.T) {
	for sync := store.Always; sync <= store.Off; sync++ {
		t.Run(sync.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a ?#%.db")
			s := open1(t, path, sync)
			expires := time.Now().Add(time.Hour)
			err := s.Update(t.Context(), "worker-1", func(tx *store.Tx) error {
				return errors.Join(tx.Put(store.Text("old"), store.Text("x"), time.Time{}), tx.Clear(),
					tx.Put(store.Text("a"), store.Text("1"), expires),
					tx.Put(store.Text("b"), store.Text("2"), time.Time{}),
					tx.Put(store.Text("a"), store.Text("3"), expires))
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Apply(t.Context(), "", store.Write{Op: "erase", Key: store.Text("b")}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open1(t, path, sync)
			e := s.Get(store.Text("a"))
			if st := s.Stats(); st.Keys != 1 || st.Seq != 6 || e == nil || !e.Expires.Equal(expires) ||
				string(e.Value.Raw()) != string(store.Text("3")) || e.Seq != 5 || e.Who != "worker-1" {
				t.Errorf("%+v, entry %+v", st, e)
			}
		})
	}
}

// TestBrokerFile opens a file with the statements of broker/detail/sqlite_backend.cc in it.
func TestBrokerFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.sqlite")
	key, _ := store.Make(event.Vector{"k", uint64(1)})
	value, _ := store.Make(event.Set{"a", "b"})
	expires := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	shell(t, path, fmt.Sprintf(`PRAGMA journal_mode=DELETE;
		create table if not exists meta(key text primary key, value text);
		create table if not exists store(key blob primary key, value blob, expiry integer);
		replace into meta(key, value) values('broker_version', '2.8.0');
		replace into store(key, value, expiry) values(x'%x', x'%x', %d);
		replace into store(key, value, expiry) values(x'%x', x'%x', NULL);`,
		[]byte(key), []byte(value), expires.UnixNano(), []byte(store.Text("b")), []byte(key)))
	s := open1(t, path, store.Always)
	e := s.Get(key)
	if e == nil || string(e.Value.Raw()) != string(value) || !e.Expires.Equal(expires) || e.Seq == 0 {
		t.Fatalf("%+v", e)
	}
	if _, err := s.Apply(t.Context(), "me", store.Write{Op: "put", Key: store.Text("c"),
		Value: store.Text("d"), TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	// The shell reads while the store is open, and Broker's statements go on working.
	got := shell(t, path, "SELECT hex(value), who FROM store WHERE key = x'"+
		hex.EncodeToString(store.Text("c"))+"'; SELECT count(*) FROM store; SELECT * FROM meta ORDER BY key")
	if want := "0501" + "64|me\n3\nbroker_version|2.8.0\nzmtpd_seq|2"; got != want {
		t.Errorf("the shell reads %q, want %q", got, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got = shell(t, path, "replace into store(key, value, expiry) values(x'050165', x'050166', NULL);"+
		"PRAGMA integrity_check")
	if got != "ok" {
		t.Error(got)
	}
	if e := open1(t, path, store.Always).Get(store.Text("e")); e == nil {
		t.Error("what Broker wrote later is not there")
	}
}

// TestDamage: a damaged file is an error that says what to do, and stays as it is.
func TestDamage(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	s := open1(t, good, store.Always)
	for i := range 500 {
		if _, err := s.Start("", func(tx *store.Tx) error {
			return tx.Put(store.Text(strconv.Itoa(i)), store.Text(strings.Repeat("v", 100)), time.Time{})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), whole...)) }
	for name, content := range map[string][]byte{
		"empty":    {},
		"text":     []byte("this is a text, and no SQLite file"),
		"header":   change(func(b []byte) []byte { b[3] ^= 1; return b }),
		"cut":      whole[:len(whole)/2],
		"cut page": whole[:len(whole)-100],
		"zeros": change(func(b []byte) []byte {
			clear(b[len(b)/2 : len(b)/2+8192])
			return b
		}),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := Open(path, store.Always)
			if err == nil {
				_, err = store.Open(store.Config{Name: "test", Backend: b})
			}
			if !errors.Is(err, store.CannotOpenFile) || !strings.Contains(err.Error(), "stays as it is") {
				t.Errorf("error %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(content) {
				t.Errorf("the file has changed, error %v", err)
			}
		})
	}
	t.Run("other tables", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "other")
		shell(t, path, "CREATE TABLE other(a)")
		if _, err := Open(path, store.Always); !errors.Is(err, store.CannotOpenFile) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("value", func(t *testing.T) {
		shell(t, good, "UPDATE store SET value = x'ff' WHERE rowid = 7")
		b, err := Open(good, store.Always)
		if err != nil {
			t.Fatal(err)
		}
		_, err = store.Open(store.Config{Name: "test", Backend: b})
		if !errors.Is(err, store.CannotOpenFile) || !strings.Contains(err.Error(), "row 7") {
			t.Errorf("error %v", err)
		}
	})
}

func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := open1(t, path, store.Always)
	if _, err := Open(path, store.Always); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error %v", err)
	}
	s.Close()
	open1(t, path, store.Always)
}

// writeForever writes numbers with several goroutines, and prints each when it is acknowledged.
func writeForever(path string) {
	b, err := Open(path, store.Always)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s, err := store.Open(store.Config{Name: "test", Backend: b})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for writer := range 8 {
		go func() {
			key := store.Text(strconv.Itoa(writer))
			next := uint64(0)
			if e := s.Get(key); e != nil {
				n, _ := e.Value.Raw().Count()
				next = n
			}
			for {
				next++
				one, _ := store.Make(next)
				err := s.Update(context.Background(), "", func(tx *store.Tx) error {
					return errors.Join(tx.Put(key, one, time.Time{}),
						tx.Put(store.Text("twin "+strconv.Itoa(writer)), one, time.Time{}))
				})
				mu.Lock()
				if err != nil {
					fmt.Println(err)
				}
				fmt.Println(writer, next)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// TestKill: what was acknowledged survives SIGKILL at any moment, and a batch is there whole.
func TestKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "store")
	rounds := 4
	if testkit.Nightly() {
		rounds = 100
	}
	acknowledged := map[string]uint64{}
	for range rounds {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "ZMTPD_TEST_STORE="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		most := 20 + rand.IntN(400)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			writer, number, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				t.Errorf("the writer says %s", lines.Text())
			}
			acknowledged[writer] = n
			if most--; most == 0 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		s := open1(t, path, store.Always)
		for writer, want := range acknowledged {
			e, twin := s.Get(store.Text(writer)), s.Get(store.Text("twin "+writer))
			if e == nil || twin == nil || string(e.Value.Raw()) != string(twin.Value.Raw()) {
				t.Fatalf("writer %s: the two entries of a batch are %v and %v", writer, e, twin)
			}
			if got, _ := e.Value.Raw().Count(); got < want || got > want+1 {
				t.Errorf("writer %s has written %d, %d was acknowledged", writer, got, want)
			}
		}
		s.Close()
	}
}

// TestDiskFull: nothing that was acknowledged is lost, and the store goes on when there is room.
func TestDiskFull(t *testing.T) {
	dir := testkit.Tmpfs(t, 1<<20)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 200_000), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open1(t, filepath.Join(dir, "store"), store.Always)
	t.Cleanup(func() { s.Close() }) // before the file system ends
	value := store.Text(strings.Repeat("v", 10_000))
	put := func(i int) error {
		_, err := s.Apply(t.Context(), "", store.Write{Op: "put", Key: store.Text(strconv.Itoa(i)), Value: value})
		return err
	}
	n := 0
	var err error
	for ; err == nil && n < 1000; n++ {
		err = put(n)
	}
	if !errors.Is(err, store.BackendFailure) || !strings.Contains(err.Error(), "full") {
		t.Fatalf("error %v after %d", err, n)
	}
	if st := s.Stats(); st.Keys != n-1 {
		t.Errorf("%+v, want %d keys", st, n-1)
	}
	os.Remove(ballast)
	testkit.Eventually(t, "the store has found out, without a write, that there is room",
		func() bool { return s.Stats().Failure == nil })
	if err := put(n - 1); err != nil {
		t.Fatal(err)
	}
	n++
	s.Close()
	s = open1(t, filepath.Join(dir, "store"), store.Always)
	if st := s.Stats(); st.Keys != n-1 {
		t.Errorf("%d keys, %d were acknowledged", st.Keys, n-1)
	}
}

// BenchmarkStore measures writes and reads by 1, 16 and 256 goroutines, in memory and on disk,
// beside statements of plain SQLite, one transaction each, from as many goroutines.
func BenchmarkStore(b *testing.B) {
	value := store.Text(strings.Repeat("v", 100))
	one, _ := store.Make(uint64(1))
	ops := map[string]func(s *store.Store, key event.Raw) error{
		"put": func(s *store.Store, key event.Raw) error {
			_, err := s.Apply(context.Background(), "", store.Write{Op: "put", Key: key, Value: value})
			return err
		},
		"put_unique": func(s *store.Store, key event.Raw) error {
			_, err := s.Apply(context.Background(), "", store.Write{Op: "put_unique", Key: key, Value: value})
			return err
		},
		"increment": func(s *store.Store, key event.Raw) error {
			_, err := s.Apply(context.Background(), "", store.Write{Op: "increment", Key: key, Value: one})
			return err
		},
		"get": func(s *store.Store, key event.Raw) error {
			s.Get(key)
			return nil
		},
	}
	for _, op := range []string{"put", "put_unique", "increment", "get"} {
		for _, clients := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/memory/%d", op, clients), func(b *testing.B) {
				s, err := store.Open(store.Config{Name: "test"})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				measure(b, clients, func(key event.Raw) error { return ops[op](s, key) })
			})
			if op == "get" {
				continue // the same with a file
			}
			for sync := store.Always; sync <= store.Off; sync++ {
				b.Run(fmt.Sprintf("%s/%v/%d", op, sync, clients), func(b *testing.B) {
					s := open1(b, filepath.Join(b.TempDir(), "store"), sync)
					defer s.Close()
					measure(b, clients, func(key event.Raw) error { return ops[op](s, key) })
				})
			}
		}
	}
	for _, clients := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("put/plain/%d", clients), func(b *testing.B) {
			db := connect(filepath.Join(b.TempDir(), "plain"), "journal_mode(WAL)", "synchronous(FULL)")
			defer db.Close()
			if _, err := db.Exec("CREATE TABLE store(key blob primary key, value blob)"); err != nil {
				b.Fatal(err)
			}
			put, err := db.Prepare("REPLACE INTO store(key, value) VALUES(?, ?)")
			if err != nil {
				b.Fatal(err)
			}
			measure(b, clients, func(key event.Raw) error {
				_, err := put.Exec([]byte(key), []byte(value))
				return err
			})
		})
	}
}

// measure calls f from some goroutines with keys of 100,000.
func measure(b *testing.B, clients int, f func(key event.Raw) error) {
	keys := make([]event.Raw, 100_000)
	for i := range keys {
		keys[i] = store.Text("key" + strconv.Itoa(i))
	}
	each := (b.N + clients - 1) / clients
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c), 0))
			for range each {
				if err := f(keys[r.IntN(len(keys))]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(each*clients)/b.Elapsed().Seconds(), "ops/s")
}
