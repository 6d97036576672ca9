// Command conformance runs the tests that show how package zmtp conforms to the RFCs and to libzmq,
// and writes docs/conformance.md: each rule, its tests and their result.
//
//	go run ./zmtp/interop/conformance [flags of go test]
//
// Run it in the root of the module. rows.txt lists the rules. The command fails if a test of a rule
// does not exist, fails, or is skipped.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

//go:embed rows.txt
var rowsText string

// page is the file that the command writes.
const page = "docs/conformance.md"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(flags []string) error {
	table, err := parse(rowsText)
	if err != nil {
		return err
	}
	results := make(map[test]string)
	for pkg, names := range table.byPackage() {
		fmt.Fprintf(os.Stderr, "%s: %d tests\n", pkg, len(names))
		if err := runTests(pkg, names, flags, results); err != nil {
			return fmt.Errorf("%s: %w", pkg, err)
		}
	}
	text, failures := table.render(results)
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		return err
	}
	if len(failures) > 0 {
		return errors.New("these rows are not shown:\n" + strings.Join(failures, "\n"))
	}
	return nil
}

// runTests runs tests of a package and notes the result of each: passed, or the reason why it did
// not pass.
func runTests(pkg string, names, flags []string, results map[test]string) error {
	args := append([]string{"test", "-json", "-count=1",
		"-run=^(" + strings.Join(names, "|") + ")$"}, flags...)
	cmd := exec.Command("go", append(args, "./"+pkg)...)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	_, exited := errors.AsType[*exec.ExitError](cmd.Run())
	for decoder := json.NewDecoder(&out); ; {
		var event struct{ Action, Test, Output string }
		if err := decoder.Decode(&event); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		name, _, _ := strings.Cut(event.Test, "/")
		switch t := (test{pkg, name}); {
		case event.Action == "output":
			failed.WriteString(event.Output)
		case name == "" || !slices.Contains(names, name):
		case event.Action == "skip":
			results[t] = "skipped"
		case event.Action == "fail":
			results[t] = "failed"
		case event.Action == "pass" && results[t] == "" && name == event.Test:
			results[t] = passed
		}
	}
	if exited {
		os.Stderr.Write(failed.Bytes())
	}
	return nil
}
