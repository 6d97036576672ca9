// Command bench compares package zmtp with libzmq (its C API), pebbe/zmq4 (libzmq through cgo) and
// go-zeromq/zmq4 (pure Go), in one run, and prints tables in Markdown. `make bench-library` calls
// it. It is a module of its own so that their modules stay out of users' go.mod.
//
// Each measurement runs in a process of its own, which holds both ends. It ends with the process,
// so nothing depends on how fast a library closes. Numbers are medians.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// library is what is compared. Its loops run until the process ends.
type library interface {
	open(kind string) socket
	send(to []socket, size int) // to the sockets in turn
	receive(socket)
	echo(socket)
	received() float64 // by all sockets for which receive was called
	roundTrips(s socket, size, n int) []time.Duration
}

type socket interface {
	listen(endpoint string) (bound string)
	connect(endpoint string)
}

// libraries are made on demand, since only one is used in a process.
var libraries = map[string]func() library{
	"libzmq":        func() library { return libzmq{} },
	"zmtpd":         func() library { return newZmtpd(false) },
	"zmtpd batches": func() library { return newZmtpd(true) },
	"pebbe":         func() library { return newPebbe() },
	"go-zeromq":     func() library { return newGoZeromq() },
}

var (
	all    = []string{"libzmq", "zmtpd", "zmtpd batches", "pebbe", "go-zeromq"}
	single = []string{"libzmq", "zmtpd", "pebbe", "go-zeromq"}
)

// measurement is what a process measures.
type measurement struct {
	Library, Scenario, Transport string
	Size                         int
	Window                       time.Duration
}

// result is what it found; which fields have a value depends on the scenario.
type result struct {
	Rate     float64 // messages/s
	CPU      float64 // seconds per million messages, both ends together
	P50, P99 float64 // µs
	Bytes    float64 // of memory for a connection
	Count    int     // connections
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runs is how often each measurement is made; the median counts.
var runs = flag.Int("runs", 3, "measurements of each cell, of which the median is printed")

var (
	window  = flag.Duration("window", 200*time.Millisecond, "how long a measurement of a rate takes")
	only    = flag.String("only", "", "print only the tables with this word in their title")
	one     = flag.String("one", "", "measure what this JSON says, and print JSON; for the program itself")
	holding = flag.String("hold", "", "make idle connections to this address; for the program itself")
)

func main() {
	flag.Parse()
	switch {
	case *holding != "":
		hold(*holding)
	case *one != "":
		var m measurement
		check(json.Unmarshal([]byte(*one), &m))
		r := scenarios[m.Scenario](m)
		check(json.NewEncoder(os.Stdout).Encode(r))
		os.Exit(0) // with all loops running
	default:
		report()
	}
}

// median measures in several processes. It returns nil where the library cannot do it.
func (m measurement) median() *result {
	var found []result
	for range *runs {
		arg, err := json.Marshal(m)
		check(err)
		cmd := exec.Command(os.Args[0], "-one", string(arg))
		out := new(strings.Builder)
		cmd.Stdout, cmd.Stderr = out, os.Stderr
		check(cmd.Start())
		stuck := time.AfterFunc(time.Minute+10*m.Window, func() { cmd.Process.Kill() })
		err = cmd.Wait()
		stuck.Stop()
		var r result
		if err != nil || json.Unmarshal([]byte(out.String()), &r) != nil {
			fmt.Fprintf(os.Stderr, "bench: %+v: %v\n", m, err)
			return nil
		}
		found = append(found, r)
	}
	field := func(f func(result) float64) float64 {
		values := make([]float64, len(found))
		for i, r := range found {
			values[i] = f(r)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return &result{
		Rate:  field(func(r result) float64 { return r.Rate }),
		CPU:   field(func(r result) float64 { return r.CPU }),
		P50:   field(func(r result) float64 { return r.P50 }),
		P99:   field(func(r result) float64 { return r.P99 }),
		Bytes: field(func(r result) float64 { return r.Bytes }),
		Count: found[0].Count,
	}
}

// table prints a table with a row for each measurement, a column for each library, and cells made
// by the given functions, of which there is one for each number of a library.
func table(title string, libraries []string, rows []measurement, name func(measurement) string,
	units []string, cell func(result) []string) {
	if !strings.Contains(title, *only) {
		return
	}
	fmt.Printf("\n%s\n\n|", title)
	for _, l := range libraries {
		for _, u := range units {
			fmt.Printf(" | %s%s", l, u)
		}
	}
	fmt.Println(" |\n|---" + strings.Repeat("|---", len(libraries)*len(units)) + "|")
	for _, row := range rows {
		fmt.Printf("| %s", name(row))
		for _, l := range libraries {
			row.Library, row.Window = l, *window
			cells := slices.Repeat([]string{"–"}, len(units))
			if r := row.median(); r != nil {
				cells = cell(*r)
			}
			fmt.Printf(" | %s", strings.Join(cells, " | "))
		}
		fmt.Println(" |")
	}
}

func report() {
	started := time.Now()
	fmt.Printf("%s, %d CPUs, %s, libzmq %s, pebbe/zmq4 and go-zeromq/zmq4 as in zmtp/bench/go.mod. "+
		"Medians of %d runs.\n", processor(), runtime.NumCPU(), runtime.Version(), version(), *runs)
	rate := func(r result) []string { return []string{number(r.Rate / 1e3), number(r.CPU)} }
	rateUnits := []string{", k/s", ", CPU s"}
	size := func(m measurement) string { return bytes(m.Size) }
	for _, transport := range []string{"tcp", "ipc", "inproc"} {
		var rows []measurement
		for _, n := range []int{10, 100, 500, 8 << 10, 64 << 10, 1 << 20} {
			rows = append(rows, measurement{Scenario: "push", Transport: transport, Size: n})
		}
		table("PUSH to PULL over "+transport+": thousand messages/s, and CPU seconds of both ends "+
			"per million messages", all, rows, size, rateUnits, rate)
	}
	table("PUB to 8 SUBs over tcp: thousand deliveries/s, and CPU seconds per million deliveries",
		single, []measurement{{Scenario: "pub", Transport: "tcp", Size: 100},
			{Scenario: "pub", Transport: "tcp", Size: 8 << 10}}, size, rateUnits, rate)
	table("100 DEALERs to a ROUTER over tcp: thousand messages/s, and CPU seconds per million",
		single, []measurement{{Scenario: "dealers", Transport: "tcp", Size: 100}}, size, rateUnits,
		rate)
	table("REQ to REP and back, 100 B: µs", single, []measurement{
		{Scenario: "req", Transport: "tcp", Size: 100},
		{Scenario: "req", Transport: "ipc", Size: 100},
		{Scenario: "req", Transport: "inproc", Size: 100}},
		func(m measurement) string { return m.Transport }, []string{", p50", ", p99"},
		func(r result) []string { return []string{number(r.P50), number(r.P99)} })
	table("Memory of a PULL for each idle connection over tcp: KiB", single,
		[]measurement{{Scenario: "idle", Transport: "tcp"}},
		func(measurement) string { return "idle" }, []string{"", ", connections"},
		func(r result) []string {
			return []string{fmt.Sprintf("%.1f", r.Bytes/1024), fmt.Sprint(r.Count)}
		})
	fmt.Fprintf(os.Stderr, "bench: took %v\n", time.Since(started).Round(time.Second))
}

// number prints three digits.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func bytes(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
