package main

import (
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

// headerTime matches a line of #open or #close with any prefix and separator. Only these lines do
// not depend on the messages alone.
var headerTime = regexp.MustCompile(`(?m)^(\S{0,10}(?:open|close)\S*\s?)(\d{4}(?:-\d\d){5})$`)

// logs returns the logs in a folder by name, without the times of #open and #close.
func logs(t *testing.T, dir string, decode bool) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		if e.Name() == "CONFIG" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		name := e.Name()
		if decode {
			if name, err = url.PathUnescape(name); err != nil {
				t.Fatal(err)
			}
		}
		all[name] = headerTime.ReplaceAllString(string(content), "${1}TIME")
	}
	return all
}

// A logger that receives the recording over TCP writes the files of Zeek's logger, byte for byte,
// in every configuration.
func TestLoggerWritesWhatZeekWrote(t *testing.T) {
	t.Parallel()
	cases := []struct {
		recording string
		logs      int // in each configuration; for the recordings they are known
		configs   map[string][]string
	}{
		{"cluster-logs", 33, map[string][]string{"tsv": nil, "json": {"--format", "json"}}},
		{"edge-logs", 33, nil},
		{"edge-logs-ext", 0, nil},
	}
	for _, c := range cases {
		recording := testkit.Unpack(t, c.recording)
		if c.configs == nil {
			c.configs = map[string][]string{}
			scripts, err := filepath.Glob(filepath.Join(recording, "*", "CONFIG"))
			if err != nil || len(scripts) == 0 {
				t.Fatalf("%s: no configurations, %v", c.recording, err)
			}
			for _, script := range scripts {
				c.configs[filepath.Base(filepath.Dir(script))] = []string{"--redefs", script}
			}
		}
		for _, config := range slices.Sorted(maps.Keys(c.configs)) {
			t.Run(c.recording+"/"+config, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				logger := startDaemon(t,
					append([]string{"logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir},
						c.configs[config]...)...)
				runTool(t, nil, "replay", filepath.Join(recording, "log-writes.bin"), "--push",
					logger.Endpoint("PULL"))
				logger.Terminate()

				want := logs(t, filepath.Join(recording, config), true)
				got := logs(t, dir, false)
				if c.logs > 0 && len(want) != c.logs {
					t.Errorf("%d logs are recorded, want %d", len(want), c.logs)
				}
				if g, w := slices.Sorted(maps.Keys(got)),
					slices.Sorted(maps.Keys(want)); len(w) == 0 || !slices.Equal(g, w) {
					t.Fatalf("logs\n%q\nwant\n%q", g, w)
				}
				for name := range want {
					if got[name] != want[name] {
						t.Errorf("%q differs from Zeek's: %s", name,
							firstDifference(got[name], want[name]))
					}
				}
			})
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got line\n" + g[i] + "\nwant\n" + w[i]
		}
	}
	return "one log has more lines"
}
