package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"zmtpd/cmd/zmtpd/daemon"
)

// version is for the linker to set: -ldflags "-X main.version=1.2.3".
var version = ""

type versionCommand struct{}

// Run prints what the binary was built from.
func (versionCommand) Run(std *daemon.Stdio) error {
	var b strings.Builder
	info, _ := debug.ReadBuildInfo()
	fmt.Fprintf(&b, "zmtpd %s\n", versionString())
	if commit := commitString(info); commit != "" {
		fmt.Fprintf(&b, "commit %s\n", commit)
	}
	fmt.Fprintf(&b, "%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if info != nil {
		for _, dep := range info.Deps {
			if dep.Replace != nil {
				dep = dep.Replace
			}
			fmt.Fprintf(&b, "  %s %s\n", dep.Path, dep.Version)
		}
	}
	_, err := std.Out.Write([]byte(b.String()))
	return err
}

// versionString returns the version, "devel" if the build set none.
func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" &&
		info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// commitString returns the commit that the go command recorded, "" if it did not.
func commitString(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	var revision, when string
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.time":
			when = " " + s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if revision == "" {
		return ""
	}
	if modified {
		when += ", with changes"
	}
	return revision + when
}
