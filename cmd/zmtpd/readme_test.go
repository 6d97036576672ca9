package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"zmtpd/cmd/zmtpd/daemon"
)

// pages returns the names of README.md and of all pages in docs.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(docs) < 10 {
		t.Fatalf("%d pages in docs, %v", len(docs), err)
	}
	return append(docs, "../../README.md")
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// codeBlocks returns the code blocks of a page that are marked with a language, "" for none.
func codeBlocks(t *testing.T, page, language string) (blocks []string) {
	t.Helper()
	for i, block := range strings.Split("\n"+readPage(t, page), "\n```") {
		if first, rest, ok := strings.Cut(block, "\n"); i%2 == 1 && ok && first == language {
			blocks = append(blocks, rest)
		}
	}
	return blocks
}

// zmtpd accepts every command line of zmtpd in README.md and in docs.
func TestReadmeCommands(t *testing.T) {
	file := codeBlocks(t, "../../docs/configuration.md", "yaml")[0]
	var blocks []string
	for _, page := range pages(t) {
		for _, language := range []string{"", "sh", "console"} {
			blocks = append(blocks, codeBlocks(t, page, language)...)
		}
	}
	t.Chdir(t.TempDir())
	writeFile(t, "zmtpd.yaml", file)
	n := 0
	for _, block := range blocks {
		for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
			line, _, _ = strings.Cut(line, " #")
			line, _, _ = strings.Cut(line, " > ")
			line, _, _ = strings.Cut(line, " < ")
			if _, piped, ok := strings.Cut(line, "| "); ok {
				line = piped
			}
			line = strings.TrimSuffix(strings.TrimSpace(line), " &")
			fields := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(line, "$ "), "'", ""))
			if len(fields) > 1 && fields[0] == "sudo" {
				fields = fields[1:]
			}
			if len(fields) < 2 || filepath.Base(fields[0]) != "zmtpd" {
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
	if n < 30 {
		t.Errorf("%d command lines were found, want 30 or more: some are not recognized", n)
	}
}

// target is the target of a link in Markdown.
var target = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// heading is a title of a page, which links can name.
var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)

// anchors returns the names that links can give to the titles of a page.
func anchors(page string) (names []string) {
	strip := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		name := strip.ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// Links in README.md and docs lead to files and titles that exist.
func TestReadmeLinks(t *testing.T) {
	n := 0
	for _, page := range pages(t) {
		for _, m := range target.FindAllStringSubmatch(readPage(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			n++
			file, anchor, _ := strings.Cut(m[1], "#")
			name := page
			if file != "" {
				name = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(readPage(t, name)), anchor) {
				t.Errorf("%s: %s: the page has no such title", page, m[1])
			}
		}
	}
	if n < 40 {
		t.Errorf("%d links were found, want 40 or more", n)
	}
}

// The Go program in docs/library.md runs in a module that requires a checkout, as the page says.
func TestReadmeProgram(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	module, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSpace(string(module))
	program := codeBlocks(t, "../../docs/library.md", "go")[0]
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
	t.Setenv("CGO_ENABLED", "0") // so that packages of other builds in the cache serve
	out, err := exec.Command("go", "run", "-trimpath", ".").CombinedOutput()
	if err != nil || string(out) != "hello world\n" {
		t.Fatalf("the program printed %q, %v", out, err)
	}
}
