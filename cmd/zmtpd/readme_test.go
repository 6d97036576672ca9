package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"zmtpd/cmd/zmtpd/daemon"
)

// codeBlocks returns the code blocks of README.md that are marked with a language, "" for none.
func codeBlocks(t *testing.T, language string) (blocks []string) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(readme), "\n```") {
		if first, rest, ok := strings.Cut(block, "\n"); i%2 == 1 && ok && first == language {
			blocks = append(blocks, rest)
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("README.md has no code block of language %q", language)
	}
	return blocks
}

// zmtpd accepts every command line of zmtpd in README.md.
func TestReadmeCommands(t *testing.T) {
	file, blocks := codeBlocks(t, "yaml")[0], codeBlocks(t, "")
	t.Chdir(t.TempDir())
	writeFile(t, "zmtpd.yaml", file)
	n := 0
	for _, block := range blocks {
		for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
			line, _, _ = strings.Cut(line, " #")
			line, _, _ = strings.Cut(line, " > ")
			if _, piped, ok := strings.Cut(line, "| "); ok {
				line = piped
			}
			fields := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(line, "$ "), "'", ""))
			if len(fields) == 0 || filepath.Base(fields[0]) != "zmtpd" {
				continue
			}
			n++
			if fields[1] == "config" && fields[2] == "show" {
				fields = append(fields[:1], fields[3:]...)
			}
			std := daemon.Stdio{Out: new(bytes.Buffer), Err: new(bytes.Buffer)}
			if _, err := parseArgs(context.Background(), fields[1:], std); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if n < 15 {
		t.Errorf("README.md has %d command lines, want 15 or more: some are not recognized", n)
	}
}

// The Go program in README.md runs in a module that requires a checkout, as README.md says.
func TestReadmeProgram(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	module, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	name, program := strings.TrimSpace(string(module)), codeBlocks(t, "go")[0]
	t.Chdir(t.TempDir())
	writeFile(t, "main.go", program)
	for _, args := range []string{
		"mod init example.org/hello",
		"mod edit -require " + name + "@v0.0.0 -replace " + name + "=" + root,
		"mod tidy",
	} {
		if out, err := exec.Command("go", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", args, err, out)
		}
	}
	out, err := exec.Command("go", "run", ".").CombinedOutput()
	if err != nil || string(out) != "hello world\n" {
		t.Fatalf("the program printed %q, %v", out, err)
	}
}
