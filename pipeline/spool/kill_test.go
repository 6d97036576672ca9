package spool

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

const killDirEnv = "SPOOL_TEST_KILL_DIR"

// killConfig makes many small segments.
func killConfig(dir string) Config {
	return Config{Dir: dir, MaxBytes: 256 << 20, SegmentBytes: 20_000,
		SyncInterval: time.Millisecond}
}

// killRecord returns the record of a number. Every tenth is so large that half of it may be
// written.
func killRecord(i int) string {
	size := i * 31 % 3000
	if i%10 == 0 {
		size *= 60
	}
	return fmt.Sprintf("%d %s", i, strings.Repeat("x", size))
}

// killChild appends numbered records and acknowledges some of them until it is killed. It prints
// which calls of Append have returned, and which records it is about to acknowledge.
func killChild(dir string) {
	s, err := Open(killConfig(dir), nil)
	pending := []Seq{}
	number := map[Seq]int{}
	for i := 0; err == nil; i++ {
		var seq Seq
		if seq, err = s.Append([]byte(killRecord(i))); err != nil {
			break
		}
		number[seq] = i
		fmt.Printf("+%d\n", i)
		if i%3 > 0 {
			if seq, _, err = s.Next(nil); err == nil {
				pending = append(pending, seq)
			}
		}
		if len(pending) > 10 {
			k := rand.IntN(len(pending))
			seq := pending[k]
			pending = append(pending[:k], pending[k+1:]...)
			fmt.Printf("-%d\n", number[seq])
			s.Ack(seq)
			delete(number, seq)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// After a process was killed, the next one gets, in order, all records for which Append has
// returned and that were not acknowledged.
func TestKilled(t *testing.T) {
	rounds := 3
	if testkit.Nightly() {
		rounds = 20
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			dir := t.TempDir()
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), killDirEnv+"="+dir)
			child.Stderr = t.Output()
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			appended, acked := -1, map[int]bool{}
			lines, kill := 0, 100+rand.IntN(6000)
			for sc := bufio.NewScanner(out); sc.Scan(); lines++ {
				var i int
				if _, err := fmt.Sscanf(sc.Text()[1:], "%d", &i); err != nil {
					t.Errorf("the child printed %q", sc.Text())
				}
				if sc.Text()[0] == '+' {
					appended = i
				} else {
					acked[i] = true
				}
				if lines == kill {
					if err := child.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = child.Wait()
			if lines < kill {
				t.Fatalf("the child ended after %d lines", lines)
			}

			next, again := 0, 0
			s, recovered := start(t, killConfig(dir))
			for _, r := range recovered {
				var i int
				if _, err := fmt.Sscanf(r, "%d", &i); err != nil || r != killRecord(i) {
					t.Fatalf("unknown record %.20q", r)
				}
				for ; next < i; next++ {
					if !acked[next] {
						t.Fatalf("record %d is missing", next)
					}
				}
				if i != next {
					t.Fatalf("record %d comes in place of record %d", i, next)
				}
				if acked[i] {
					again++
				}
				next++
			}
			for ; next <= appended; next++ {
				if !acked[next] {
					t.Fatalf("record %d is missing at the end, %d were appended", next, appended)
				}
			}
			_, read := readAll(t, s)
			if len(read) != len(recovered) {
				t.Errorf("%d recovered, %d read", len(recovered), len(read))
			}
			t.Logf("%d appended, %d acknowledged, of which %d came again; %+v", appended+1,
				len(acked), again, s.Stats())
			if again > len(acked)/2+100 {
				t.Error("hardly any acknowledgement was on disk")
			}
		})
	}
}
