package reference

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// grammar is a small command line with everything that completions treat.
type grammar struct {
	Config string `help:"A file."`
	Logger struct {
		Format  string   `enum:"tsv,json" default:"tsv" help:"It's the format [of files]: one of two."`
		Verbose bool     `help:"Say more."`
		To      []string `help:"Endpoints."`
	} `cmd:"" help:"Write logs."`
	Capture struct {
		Read struct {
			File string `arg:"" help:"File."`
		} `cmd:"" help:"Read a capture."`
		Live struct{} `cmd:"" help:"Read an interface."`
	} `cmd:"" help:"Show packets."`
}

func model(t *testing.T) *kong.Application {
	t.Helper()
	k, err := kong.New(new(grammar), kong.Name("zmtpd"), kong.Description("Does it. Well.\n\nMore."))
	if err != nil {
		t.Fatal(err)
	}
	return k.Model
}

func script(t *testing.T, text []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "_zmtpd")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func shell(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s", name)
	}
	return path
}

// Bash completes commands, flags and values, also behind "=", which it takes for a word.
func TestBash(t *testing.T) {
	t.Parallel()
	bash, file := shell(t, "bash"), script(t, Bash(model(t)))
	for line, want := range map[string]string{
		"zmtpd l":                   "logger",
		"zmtpd capture ":            "--config --help live read",
		"zmtpd logger --f":          "--format",
		"zmtpd logger --format ":    "json tsv",
		"zmtpd logger --format = j": "json",
		"zmtpd capture read --h":    "--help",
		"zmtpd capture live --form": "",
	} {
		words := "'" + strings.ReplaceAll(line, " ", "' '") + "'"
		out, err := exec.Command(bash, "-c", `. "$0"; COMP_WORDS=(`+words+`)
			COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); cd /; _zmtpd
			printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort | tr '\n' ' '`, file).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%q is completed with %q, want %q", line, got, want)
		}
	}
}

// Zsh and fish read their scripts.
func TestZshAndFish(t *testing.T) {
	t.Parallel()
	for name, text := range map[string][]byte{"zsh": Zsh(model(t)), "fish": Fish(model(t))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(shell(t, name), "-n", script(t, text)).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The manual page has no faults that groff knows of.
func TestMan(t *testing.T) {
	t.Parallel()
	page := Man(model(t), "1.2.3-rc1")
	if !strings.Contains(string(page), `.B \-\-format=tsv|json`) {
		t.Errorf("a flag is missing:\n%s", page)
	}
	out, err := exec.Command(shell(t, "groff"), "-man", "-Tutf8", "-ww", "-z",
		script(t, page)).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
