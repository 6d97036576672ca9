package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Build builds a program of this module in the folder dir as operators have it, without cgo and the
// race detector, and returns its file. It uses the flags of the release, and so shares its compiled
// packages in the go command's cache.
func Build(t testing.TB, dir, pkg string) (program string) {
	t.Helper()
	program = filepath.Join(dir, filepath.Base(pkg))
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	build := exec.Command("go", "build", "-trimpath", "-o", program, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return program
}

// Compile compiles a C file to the file program. The arguments, libraries for example, follow the
// source.
func Compile(program, source string, args ...string) error {
	cc := exec.Command("cc", append([]string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror",
		"-o", program, source}, args...)...)
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot compile %s; on Debian: apt-get install -y gcc libc6-dev "+
			"libzmq3-dev libsodium-dev: %w\n%s", source, err, out)
	}
	return nil
}
