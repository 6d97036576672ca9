package jetstream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"zmtpd/forwarder/store"
	"zmtpd/zmtp/testkit"
)

// process is a server in a process of its own.
type process struct {
	Dir   string
	Port  int      // 0: one that the kernel chooses at the first start
	Name  string   // of one in a cluster
	Peers []string // HOST:PORT at which the servers of the cluster meet, its own one first

	cmd *exec.Cmd
}

// processEnv is the environment variable with a process in JSON.
const processEnv = "ZMTPD_TEST_NATS"

// serve runs a server until it is killed or its input ends. It prints its port.
func serve(text string) {
	err := func() error {
		var p process
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return err
		}
		options := &server.Options{Host: "127.0.0.1", Port: p.Port, JetStream: true, StoreDir: p.Dir,
			NoLog: true, NoSigs: true, ServerName: p.Name}
		if p.Port == 0 {
			options.Port = server.RANDOM_PORT
		}
		for i, peer := range p.Peers {
			host, port, err := net.SplitHostPort(peer)
			if err != nil {
				return err
			}
			if i > 0 {
				options.Routes = append(options.Routes, &url.URL{Scheme: "nats-route", Host: peer})
				continue
			}
			options.Cluster.Name, options.Cluster.Host = "test", host
			if options.Cluster.Port, err = strconv.Atoi(port); err != nil {
				return err
			}
		}
		s, err := server.NewServer(options)
		if err != nil {
			return err
		}
		s.Start()
		if !s.ReadyForConnections(time.Minute) {
			return errors.New("not ready")
		}
		fmt.Println(s.Addr().(*net.TCPAddr).Port)
		io.Copy(io.Discard, os.Stdin) // the test ends
		s.Shutdown()
		return nil
	}()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// start starts the server, again with its files and its port.
func (p *process) start(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(p)
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), processEnv+"="+string(text))
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		_, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if p.Port, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatalf("the server says %q", line)
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (p *process) url() string { return fmt.Sprint("nats://127.0.0.1:", p.Port) }

// load writes to a store from several goroutines, and knows what was acknowledged.
type load struct {
	acknowledged, tried [4]uint64
	counts              chan struct{} // one for each acknowledgement, if there is room
	stop                context.CancelFunc
	running             sync.WaitGroup
}

func startLoad(t *testing.T, s *store.Store) *load {
	l := &load{counts: make(chan struct{}, 1000)}
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	for writer := range l.tried {
		l.running.Go(func() {
			for ctx.Err() == nil {
				l.tried[writer]++
				n, _ := store.Make(l.tried[writer])
				err := s.Update(t.Context(), "", func(tx *store.Tx) error {
					return errors.Join(tx.Put(text(strconv.Itoa(writer)), n, time.Time{}),
						tx.Put(text("twin "+strconv.Itoa(writer)), n, time.Time{}))
				})
				if err != nil {
					continue
				}
				l.acknowledged[writer] = l.tried[writer]
				select {
				case l.counts <- struct{}{}:
				default:
				}
			}
		})
	}
	return l
}

// await waits for some more acknowledgements.
func (l *load) await(t *testing.T) {
	t.Helper()
	for range 20 + rand.IntN(100) {
		select {
		case <-l.counts:
		case <-time.After(testkit.Patience):
			t.Fatal("no write is acknowledged")
		}
	}
}

func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// check compares a store with what was acknowledged.
func (l *load) check(t *testing.T, s *store.Store) {
	t.Helper()
	for writer := range l.tried {
		e, twin := s.Get(text(strconv.Itoa(writer))), s.Get(text("twin "+strconv.Itoa(writer)))
		if e == nil || twin == nil || string(e.Value.Raw()) != string(twin.Value.Raw()) {
			t.Fatalf("writer %d: the two entries of a batch are %v and %v", writer, e, twin)
		}
		got, _ := e.Value.Raw().Count()
		if got < l.acknowledged[writer] || got > l.tried[writer] {
			t.Errorf("writer %d has written %d, %d was acknowledged, %d tried", writer, got,
				l.acknowledged[writer], l.tried[writer])
		}
	}
}

// TestKill: what was acknowledged survives SIGKILL of the server at any moment, and a batch is
// there whole.
func TestKill(t *testing.T) {
	p := &process{Dir: t.TempDir()}
	p.start(t)
	t.Cleanup(p.kill)
	cfg := Config{URLs: []string{p.url()}, Timeout: 2 * time.Second}
	s, _ := open(t, cfg)
	l := startLoad(t, s)
	defer l.end()
	rounds := 2
	if testkit.Nightly() {
		rounds = 50
	}
	for range rounds {
		l.await(t)
		p.kill()
		p.start(t)
	}
	l.end()
	p.kill() // what the store would mend when it is closed is not mended
	s.Close()
	p.start(t)
	s, _ = open(t, cfg)
	l.check(t, s)
}

// TestCluster: of three servers of a cluster, each is killed in turn while the store is written to.
// The other two go on, and in the end a new master finds at two of them all that was acknowledged.
func TestCluster(t *testing.T) {
	if !testkit.Nightly() {
		t.Skip("elections and three servers take half a minute")
	}
	const servers = 3
	var meet, urls []string
	for range servers {
		meet = append(meet, fmt.Sprint("127.0.0.1:", testkit.ReservePort(t)))
	}
	var all []*process
	for i := range servers {
		p := &process{Dir: t.TempDir(), Name: fmt.Sprint("n", i),
			Peers: append([]string{meet[i]}, meet...)}
		p.start(t)
		t.Cleanup(func() { p.kill() })
		all = append(all, p)
		urls = append(urls, p.url())
	}
	cfg := Config{Store: "test", URLs: urls, Replicas: servers, Timeout: 5 * time.Second}
	var b *Backend
	awaitOpen := func() {
		t.Helper()
		testkit.Eventually(t, "the servers have a leader", func() bool {
			var err error
			if b, err = Open(cfg); err != nil {
				t.Log(err)
			}
			return err == nil
		})
	}
	awaitOpen()
	s, err := store.Open(store.Config{Name: "test", Backend: b, MaxValue: b.MaxValue()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	l := startLoad(t, s)
	defer l.end()
	for round := range 2 * servers {
		l.await(t)
		p := all[round%servers]
		p.kill()
		l.await(t)
		p.start(t)
		testkit.Eventually(t, "the server has what the others have", func() bool {
			info, err := b.stream.Info(t.Context())
			if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != servers-1 {
				return false
			}
			for _, r := range info.Cluster.Replicas {
				if !r.Current || r.Offline {
					return false
				}
			}
			return true
		})
	}
	l.await(t)
	all[rand.IntN(servers)].kill()
	l.await(t)
	l.end()
	b.nc.Close() // what the store would mend when it is closed is not mended
	s.Close()
	awaitOpen()
	if s, err = store.Open(store.Config{Name: "test", Backend: b}); err != nil {
		t.Fatal(err)
	}
	l.check(t, s)
}
