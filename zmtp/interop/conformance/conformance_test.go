package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the root of the module.
const root = "../../.."

func rows(t *testing.T) table {
	t.Helper()
	rows, err := parse(rowsText)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// Every test in rows.txt exists.
func TestTestsExist(t *testing.T) {
	for pkg, names := range rows(t).byPackage() {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
					found = append(found, f.Name.Name)
				}
			}
		}
		for _, name := range names {
			if !slices.Contains(found, name) {
				t.Errorf("%s has no test %s", pkg, name)
			}
		}
	}
}

// The page is what "make conformance" writes when all tests pass.
func TestPageIsCurrent(t *testing.T) {
	all := make(map[test]string)
	rows := rows(t)
	for r := range rows.all() {
		for _, test := range r.tests {
			all[test] = passed
		}
	}
	want, failures := rows.render(all)
	if failures != nil {
		t.Error(failures)
	}
	got, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not current: run make conformance", page)
	}
}

// A row without a test or a reason is refused, and one whose test did not pass is a failure.
func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"a P0\n":                     "before the first section",
		"== s\na\n":                  "an id and a priority",
		"== s\n\trule x\n":           "no row",
		"== s\na P0\n\trule x\n":     "neither a test nor a reason",
		"== s\na P0\n\tzmtp TestX\n": "no rule",
		"== s\na P3\n\trule x\n":     "priority",
		"== s\na P0\n\trule x\n\tnot y\na P1\n\trule x\n\tnot y\n": "two rows",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	rows, err := parse("== s\na P0\n\trule x\n\tzmtp TestX TestY\n")
	if err != nil {
		t.Fatal(err)
	}
	for result, want := range map[string]string{"": "did not run", "skipped": "skipped"} {
		text, failures := rows.render(map[test]string{{"zmtp", "TestX"}: passed,
			{"zmtp", "TestY"}: result})
		if len(failures) != 1 || !strings.Contains(failures[0], "TestY "+want) ||
			!strings.Contains(text, "TestY "+want) {
			t.Errorf("failures %q, text %s", failures, text)
		}
	}
}
