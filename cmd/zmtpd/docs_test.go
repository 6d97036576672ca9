package main

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/store/rest"
)

var (
	inlineCode = regexp.MustCompile("`[^`\n]+`")
	longFlag   = regexp.MustCompile("^`(--[a-z0-9-]+)")
	makeTarget = regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)")
	repoPath   = regexp.MustCompile("^`((?:\\.ci|docs|packaging|bin)/[A-Za-z0-9_./-]+)`$")
	servedPath = regexp.MustCompile("(?m)^\\| `(/[a-z]*)` ")
)

// written returns a name and the text of each page that people have written.
func written(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, page := range pages(t) {
		switch filepath.Base(page) {
		case "commands.md", "metrics.md", "doctor.md", "conformance.md": // made from the code
		default:
			all[page] = readPage(t, page)
		}
	}
	return all
}

// The flags, metrics, make targets, files and packages that the pages name exist.
func TestDocsNames(t *testing.T) {
	flags := map[string]bool{}
	kong.Visit(grammar(context.Background(), daemon.Stdio{}).Model,
		func(node kong.Visitable, next kong.Next) error {
			if f, ok := node.(*kong.Flag); ok {
				flags["--"+f.Name] = true
			}
			return next(nil)
		})
	var metrics []string
	for _, m := range daemon.Metrics() {
		metrics = append(metrics, m.Name)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	gomod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	module, _, _ := strings.Cut(strings.TrimPrefix(string(gomod), "module "), "\n")
	goPackage := regexp.MustCompile("^`" + regexp.QuoteMeta(module) + "/([a-z0-9/]+)`$")
	n := map[string]int{}
	for page, text := range written(t) {
		check := func(kind, name string, exists bool) {
			if n[kind]++; !exists {
				t.Errorf("%s: there is no %s %s", page, kind, name)
			}
		}
		for _, m := range makeTarget.FindAllStringSubmatch(text, -1) {
			check("make target", m[1], regexp.MustCompile("(?m)^"+m[1]+"[a-z -]*:").Match(makefile))
		}
		for _, code := range inlineCode.FindAllString(text, -1) {
			if m := longFlag.FindStringSubmatch(code); m != nil {
				check("flag", m[1], flags[m[1]])
			}
			if m := repoPath.FindStringSubmatch(code); m != nil && m[1] != "bin/zmtpd" {
				_, err := os.Stat("../../" + m[1])
				check("file", m[1], err == nil)
			}
			if m := goPackage.FindStringSubmatch(code); m != nil {
				sources, err := fs.Glob(os.DirFS("../../"+m[1]), "*.go")
				check("package", m[1], err == nil && len(sources) > 0)
			}
			name := metricName.FindString(code)
			if strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_bytes") {
				check("metric", name, slices.Contains(metrics, name))
			}
		}
	}
	for kind, least := range map[string]int{"flag": 100, "metric": 5, "make target": 15,
		"file": 5, "package": 15} {
		if n[kind] < least {
			t.Errorf("%d times a %s was found, want %d or more", n[kind], kind, least)
		}
	}
}

// The examples of files for clients are what zmtpd takes, and that for the daemons has no fault.
func TestDocsConfigurations(t *testing.T) {
	stores := codeBlocks(t, "../../docs/stores.md", "yaml")
	clients := codeBlocks(t, "../../docs/websocket.md", "yaml")
	daemons := codeBlocks(t, "../../docs/configuration.md", "yaml")
	if len(stores)+len(clients)+len(daemons) != 3 {
		t.Fatal("a page has another number of examples")
	}
	if _, err := rest.ParseClients([]byte(stores[0])); err != nil {
		t.Error(err)
	}
	t.Chdir(t.TempDir())
	writeFile(t, "zmtpd.yaml", daemons[0])
	runTool(t, nil, "config", "check", "zmtpd.yaml")
	writeFile(t, "clients.yaml", clients[0])
	startDaemon(t, "forwarder", "--websocket", "127.0.0.1:0", "--websocket-clients", "clients.yaml")
}

// zmtpd serves the paths that docs/http.md names.
func TestDocsHTTP(t *testing.T) {
	d := startDaemon(t, "forwarder")
	paths := servedPath.FindAllStringSubmatch(readPage(t, "../../docs/http.md"), -1)
	if len(paths) < 5 {
		t.Errorf("%d paths were found, want 5 or more", len(paths))
	}
	for _, m := range paths {
		response, err := http.Get(d.Endpoint("HTTP") + m[1])
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", m[1], response.Status)
		}
	}
}
