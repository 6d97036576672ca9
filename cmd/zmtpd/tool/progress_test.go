package tool

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp/testkit"
)

// The progress line in the course of a replay.
func TestMeter(t *testing.T) {
	type at struct {
		seconds         float64
		messages, bytes uint64
		passes          float64
		want            string
	}
	for name, c := range map[string]struct {
		rate   float64
		repeat int
		course []at
	}{
		"as fast as possible": {0, 1, []at{
			{1, 1000, 500, 0.125, "12%, 1000 messages, 500 B, 1000/s, 0:07 left"},
			{2, 2000, 2048, 0.25, "25%, 2000 messages, 2.0 KiB, 1000/s, 0:06 left"},
			{8, 8000, 3 << 29, 1, "100%, 8000 messages, 1.5 GiB, 1000/s, 0:00 left"},
		}},
		"becomes slower": {0, 1, []at{
			{1, 1000, 1, 0.1, "10%, 1000 messages, 1 B, 1000/s, 0:09 left"},
			{10, 1090, 1, 0.109, "10%, 1090 messages, 1 B, 109/s, 1:22 left"},
			// the first second no longer counts
			{11, 1100, 1, 0.11, "11%, 1100 messages, 1 B, 10/s, 14:50 left"},
		}},
		"stands still": {0, 1, []at{
			{1, 10, 1, 0.1, "10%, 10 messages, 1 B, 10/s, 0:09 left"},
			{20, 10, 1, 0.1, "10%, 10 messages, 1 B, 0/s"},
			{40, 10, 1, 0.1, "10%, 10 messages, 1 B, 0/s"},
		}},
		"several times": {0, 4, []at{
			{1, 10, 1, 0.5, "12%, 10 messages, 1 B, 10/s, 0:07 left"},
			{6, 60, 1, 3, "75%, 60 messages, 1 B, 10/s, 0:02 left"},
		}},
		"without end": {0, 0, []at{
			{1, 10, 1, 0.5, "50% of pass 1, 10 messages, 1 B, 10/s"},
			{5, 50, 1, 2.5, "50% of pass 3, 50 messages, 1 B, 10/s"},
		}},
		// the first half of the bytes is one message, the other half nine
		"at a rate": {0.5, 1, []at{
			{1, 1, 1, 0.5, "50%, 1 messages, 1 B, 1.0/s, 0:03 left"},
			{10, 5, 1, 0.75, "75%, 5 messages, 1 B, 0.5/s, 0:03 left"},
			{18, 9, 1, 0.9, "90%, 9 messages, 1 B, 0.5/s, 0:02 left"},
		}},
		"behind the rate": {1000, 1, []at{
			{10, 100, 1, 0.25, "25%, 100 messages, 1 B, 10/s, 0:30 left"},
		}},
		"hours": {0, 1, []at{
			{10, 1, 1, 0.001, "0%, 1 messages, 1 B, 0.1/s, 2:46:30 left"},
		}},
		"size not known": {0, 1, []at{
			{2, 10, 1, 0, "10 messages, 1 B, 5.0/s"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Unix(1_700_000_000, 0)
			m := NewMeter(began, c.rate, c.repeat)
			for _, a := range c.course {
				now := began.Add(time.Duration(a.seconds * float64(time.Second)))
				if got := m.Line(Sample{now, a.messages, a.bytes, a.passes}, 80); got != a.want {
					t.Errorf("after %v s: %q, want %q", a.seconds, got, a.want)
				}
			}
		})
	}
}

// With fewer columns the line has fewer parts, but none is cut.
func TestMeterWidth(t *testing.T) {
	began := time.Unix(1_700_000_000, 0)
	now := Sample{began.Add(time.Second), 1000, 2048, 0.25}
	for columns, want := range map[int]string{
		80: "25%, 1000 messages, 2.0 KiB, 1000/s, 0:03 left",
		46: "25%, 1000 messages, 2.0 KiB, 1000/s, 0:03 left",
		45: "25%, 1000 messages, 1000/s, 0:03 left",
		36: "25%, 1000/s, 0:03 left",
		21: "25%, 0:03 left",
		13: "25%",
		2:  "",
		-1: "",
	} {
		if got := NewMeter(began, 0, 1).Line(now, columns); got != want {
			t.Errorf("%d columns: %q, want %q", columns, got, want)
		}
	}
}

// Whatever is drawn and written, the written lines stand alone, and the line that was drawn last
// stands below them.
func TestProgressDraws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var out bytes.Buffer
		p := NewProgress(&out)
		want := []string{""}
		for _, text := range rapid.SliceOf(rapid.StringMatching(`(> )?[a-z]{0,5}`)).Draw(t, "lines") {
			if line, ok := strings.CutPrefix(text, "> "); ok {
				if n, err := p.Write([]byte(line + "\n")); n != len(line)+1 || err != nil {
					t.Fatalf("%d, %v", n, err)
				}
				want = append(want[:len(want)-1], line, "")
			} else {
				p.draw(text)
				want[len(want)-1] = text
			}
			got := testkit.Screen(out.String())
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("the terminal shows\n%q\nwant\n%q", got, want)
			}
		}
	})
}

// The line is drawn at each tick and removed at the end. It is always narrower than the terminal.
func TestProgressShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out testkit.Output
		p := NewProgress(&out)
		var columns atomic.Int64
		p.width = func() int { return int(columns.Load()) }
		hide := p.Show(func(_ time.Time,
			columns int) string {
			return strings.Repeat("x", columns)
		})
		for _, n := range []int{10, 5, 20} {
			columns.Store(int64(n))
			time.Sleep(progressInterval)
			synctest.Wait()
			if got := testkit.Screen(out.String()); len(got) != 1 ||
				got[0] != strings.Repeat("x", n-1) {
				t.Errorf("in %d columns: %q", n, got)
			}
		}
		hide()
		hide()
		if got := testkit.Screen(out.String()); len(got) != 1 || got[0] != "" {
			t.Errorf("the terminal still shows %q", got)
		}
		if !strings.HasSuffix(out.String(), "\r") {
			t.Error("the next line does not begin at the left")
		}
	})
}
