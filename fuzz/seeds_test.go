package fuzz_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zmtpd/zmtp/zmtptest"
)

// corpora has the seeds of each target by its name.
var corpora = map[string]func(testing.TB) [][]byte{
	"FuzzCurveCertificate": curveCertificates,
	"FuzzCurveHandshake":   curveChanges,
	"FuzzCurveOpen":        curveTraffic,
	"FuzzCurveStranger":    curveFrames,
	"FuzzEvent":            func(tb testing.TB) [][]byte { return seeds(tb, "testdata/event") },
	"FuzzEventJSON":        func(tb testing.TB) [][]byte { return seeds(tb, "testdata/eventjson") },
	"FuzzGatewayFirst":     gatewayFirsts,
	"FuzzGatewayMessage":   gatewayMessages,
	"FuzzLogBatch":         func(tb testing.TB) [][]byte { return seeds(tb, "testdata/logbatch") },
	"FuzzRedis":            redisRequests,
	"FuzzSalsa":            salsaSeeds,
	"FuzzSocketTypes":      socketTypeSeeds,
	"FuzzTopics":           topicsSeeds,
	"FuzzWebSocket":        webSocketStreams,
	"FuzzZ85Decode":        z85Texts,
	"FuzzZ85Encode":        z85Data,
}

// addSeeds adds the seeds of the target to the fuzzer. There must be one at least.
func addSeeds(f *testing.F) {
	f.Helper()
	corpus, ok := corpora[f.Name()]
	if !ok {
		f.Fatalf("no entry in corpora for %s", f.Name())
	}
	inputs := corpus(f)
	if len(inputs) == 0 {
		f.Fatalf("no seeds for %s", f.Name())
	}
	for _, b := range inputs {
		f.Add(b)
	}
}

// seeds returns the content of each file of a folder. The folder must have files, and none may be
// empty.
func seeds(tb testing.TB, dir string) [][]byte {
	tb.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var all [][]byte
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		if len(b) == 0 {
			tb.Fatalf("seed %s/%s is empty", dir, file.Name())
		}
		all = append(all, b)
	}
	if len(all) == 0 {
		tb.Fatalf("no seeds in %s", dir)
	}
	return all
}

// recorded returns what each side sent on each connection of the recorded exchanges with libzmq
// that are bytes of a TCP connection and for which keep returns true.
func recorded(tb testing.TB, keep func(name string, v zmtptest.Vector) bool) [][]byte {
	tb.Helper()
	var all [][]byte
	for name, v := range zmtptest.Vectors(tb) {
		if v.Headers["layer"] != "" || !keep(name, v) {
			continue
		}
		for i := range v.Connections {
			for _, side := range []zmtptest.Kind{zmtptest.Client, zmtptest.Server} {
				if b := v.Bytes(i, side); len(b) > 0 {
					all = append(all, b)
				}
			}
		}
	}
	if len(all) == 0 {
		tb.Fatal("no recorded exchange was kept")
	}
	return all
}

func TestEveryTargetHasSeeds(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source files: %v", err)
	}
	targets := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Fuzz") {
				targets[fn.Name.Name] = true
			}
		}
	}
	if len(targets) == 0 {
		t.Fatal("no targets")
	}
	for target := range targets {
		if corpora[target] == nil {
			t.Errorf("%s has no seeds", target)
		}
	}
	for target, corpus := range corpora {
		if !targets[target] {
			t.Errorf("corpora has %s, which is not a target", target)
		}
		if len(corpus(t)) == 0 {
			t.Errorf("the corpus of %s is empty", target)
		}
	}
}
