package main

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// passed is the result of a test that shows its row.
const passed = "passed"

// test is a test function of a package, whose path is relative to the module.
type test struct{ pkg, name string }

// row is a rule.
type row struct {
	id, priority string
	rule         string
	tests        []test
	not          string // why it cannot apply; then it needs no tests
}

// section is a group of rows.
type section struct {
	title string
	rows  []row
}

type table []section

// parse reads rows.txt: "== title" begins a section, "id priority" in the first column a row. The
// indented lines below a row begin with "rule" or "not", whose text may take several lines, or with
// the package of the tests that follow. # begins a comment.
func parse(text string) (table, error) {
	var t table
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if title, ok := strings.CutPrefix(line, "== "); ok {
			t = append(t, section{title: title})
			continue
		}
		if len(t) == 0 {
			return nil, fmt.Errorf("rows.txt:%d: a row before the first section", n)
		}
		rows := &t[len(t)-1].rows
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "\t") {
			if len(fields) < 2 {
				return nil, fmt.Errorf("rows.txt:%d: want an id and a priority", n)
			}
			last := len(fields) - 1
			*rows = append(*rows, row{id: strings.Join(fields[:last], " "),
				priority: fields[last]})
			continue
		}
		if len(*rows) == 0 {
			return nil, fmt.Errorf("rows.txt:%d: no row to which it belongs", n)
		}
		r := &(*rows)[len(*rows)-1]
		switch words := strings.Join(fields[1:], " "); fields[0] {
		case "rule":
			r.rule = strings.TrimSpace(r.rule + " " + words)
		case "not":
			r.not = strings.TrimSpace(r.not + " " + words)
		default:
			for _, name := range fields[1:] {
				r.tests = append(r.tests, test{fields[0], name})
			}
		}
	}
	return t, t.check()
}

// check refuses rows that say nothing, and those that are there twice.
func (t table) check() error {
	seen := make(map[string]bool)
	for r := range t.all() {
		switch {
		case seen[r.id]:
			return fmt.Errorf("rows.txt: two rows %q", r.id)
		case !slices.Contains([]string{"P0", "P1", "P2"}, r.priority):
			return fmt.Errorf("rows.txt: row %q has the priority %q", r.id, r.priority)
		case r.rule == "":
			return fmt.Errorf("rows.txt: row %q has no rule", r.id)
		case len(r.tests) == 0 && r.not == "":
			return fmt.Errorf("rows.txt: row %q has neither a test nor a reason", r.id)
		}
		seen[r.id] = true
	}
	return nil
}

// all returns all rows.
func (t table) all() iter.Seq[row] {
	return func(yield func(row) bool) {
		for _, s := range t {
			for _, r := range s.rows {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// byPackage returns the names of all tests, for each package, in alphabetical order.
func (t table) byPackage() iter.Seq2[string, []string] {
	names := make(map[string]map[string]bool)
	for r := range t.all() {
		for _, test := range r.tests {
			if names[test.pkg] == nil {
				names[test.pkg] = make(map[string]bool)
			}
			names[test.pkg][test.name] = true
		}
	}
	return func(yield func(string, []string) bool) {
		for _, pkg := range slices.Sorted(maps.Keys(names)) {
			if !yield(pkg, slices.Sorted(maps.Keys(names[pkg]))) {
				return
			}
		}
	}
}

const head = `# Conformance

<!-- "make conformance" writes this page from zmtp/interop/conformance/rows.txt. -->

Each row is a rule of the ZeroMQ RFCs, or of a test of libzmq, pyzmq or JeroMQ, by the name of that
test. The tests run against libzmq 4.3.4, and against exchanges that were recorded with it. P0 is
what clusters of Zeek need, P1 what a general library needs, P2 the rest. What is not in the tables
are libzmq's transports that this library does not have (TIPC, VMCI, VSOCK, NORM, PGM, UDP), GSSAPI,
and the handling of C memory and errno.

The options of libzmq's sockets, and what stands for each, are in [options.md](options.md).

`

// render returns the page, and the rows that are not shown, each with the reason.
func (t table) render(results map[test]string) (text string, failures []string) {
	var b strings.Builder
	b.WriteString(head)
	for _, s := range t {
		fmt.Fprintf(&b, "## %s\n\n| Row | | Rule | Tests | Result |\n|---|---|---|---|---|\n", s.title)
		for _, r := range s.rows {
			result := passed
			if len(r.tests) == 0 {
				result = "cannot apply: " + r.not
			} else if r.not != "" {
				result = "passed; the rest cannot apply: " + r.not
			}
			for _, test := range r.tests {
				if got := results[test]; got != passed {
					if got == "" {
						got = "did not run"
					}
					result = test.name + " " + got
					failures = append(failures, r.id+": "+test.pkg+" "+result)
				}
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.id, r.priority, r.rule, r.cells(),
				result)
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n"), failures
}

// cells returns the tests of a row, each package once.
func (r row) cells() string {
	var all []string
	last := ""
	for _, test := range r.tests {
		if test.pkg != last {
			all = append(all, test.pkg+": "+test.name)
		} else {
			all[len(all)-1] += ", " + test.name
		}
		last = test.pkg
	}
	return strings.Join(all, "; ")
}
