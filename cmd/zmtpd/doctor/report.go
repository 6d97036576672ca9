package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// Finding is a fault that was found.
type Finding struct {
	Fault    string   `json:"fault"` // its name in Faults
	Severity Severity `json:"severity"`
	Where    string   `json:"where"` // a file and line, a flag or an endpoint
	What     string   `json:"what"`
	Remedy   string   `json:"remedy"`
}

// Report is the result of an examination.
type Report struct {
	Healthy bool      `json:"healthy"`
	Faults  []Finding `json:"faults"`  // in order of importance
	Checked []string  `json:"checked"` // what was examined
}

// maxFindings bounds the findings of one kind. A file that is no configuration has a fault in each
// line.
const maxFindings = 20

// findings collects what checks find. Its methods may be called concurrently.
type findings struct {
	mu      sync.Mutex
	all     []Finding
	count   map[string]int
	checked []string
}

// add adds a fault, unless it is known.
func (f *findings) add(name, where, format string, args ...any) {
	_, fault := find(name)
	n := Finding{name, fault.Severity, clean(where), clean(fmt.Sprintf(format, args...)),
		fault.Remedy}
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.all, n) || f.count[name] >= maxFindings {
		return
	}
	if f.count == nil {
		f.count = map[string]int{}
	}
	f.count[name]++
	f.all = append(f.all, n)
}

// has reports whether a kind of fault was found.
func (f *findings) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[name] > 0
}

// examined notes what was examined.
func (f *findings) examined(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checked = append(f.checked, clean(fmt.Sprintf(format, args...)))
}

// report returns everything that was found.
func (f *findings) report() *Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortStableFunc(f.all, func(a, b Finding) int {
		if a.Fault == b.Fault {
			return strings.Compare(a.Where, b.Where)
		}
		if a.Severity != b.Severity {
			return strings.Compare(string(a.Severity), string(b.Severity))
		}
		i, _ := find(a.Fault)
		j, _ := find(b.Fault)
		return i - j
	})
	slices.Sort(f.checked)
	return &Report{len(f.all) == 0, append([]Finding{}, f.all...), append([]string{}, f.checked...)}
}

// maxText bounds a text from a file or peer, in bytes.
const maxText = 1000

// clean makes a text from a file or peer safe for a terminal: control characters become \u escapes,
// and it is bounded.
func clean(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	var b strings.Builder
	for _, c := range strings.ToValidUTF8(text, "?") {
		if unicode.IsPrint(c) || c == '\n' {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, "\\u%04x", c)
		}
	}
	return b.String()
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for i, f := range r.Faults {
		fmt.Fprintf(&b, "%d. %s: %s [%s]\n", i+1, f.Severity, f.Where, f.Fault)
		for line := range strings.Lines(f.What) {
			fmt.Fprintf(&b, "   %s\n", strings.TrimSuffix(line, "\n"))
		}
		fmt.Fprintf(&b, "   To do: %s\n\n", f.Remedy)
	}
	if r.Healthy {
		b.WriteString("No fault found.")
	} else {
		fmt.Fprintf(&b, "%d found.", len(r.Faults))
	}
	b.WriteString(" Examined:\n")
	for _, c := range r.Checked {
		fmt.Fprintf(&b, "  %s\n", c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
