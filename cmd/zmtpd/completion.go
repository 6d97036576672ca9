package main

import (
	"github.com/alecthomas/kong"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/reference"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Shell: bash, zsh or fish."`
}

// Help is shown by zmtpd completion --help.
func (completionCommand) Help() string {
	return `Examples:

    zmtpd completion bash > /etc/bash_completion.d/zmtpd
    zmtpd completion zsh > /usr/local/share/zsh/site-functions/_zmtpd
    zmtpd completion fish > ~/.config/fish/completions/zmtpd.fish`
}

// Run prints the script.
func (c *completionCommand) Run(std *daemon.Stdio, k *kong.Context) error {
	script := map[string]func(*kong.Application) []byte{
		"bash": reference.Bash, "zsh": reference.Zsh, "fish": reference.Fish,
	}[c.Shell]
	_, err := std.Out.Write(script(k.Model))
	return err
}

type manCommand struct{}

// Help is shown by zmtpd man --help.
func (manCommand) Help() string {
	return `Example:

    zmtpd man | man -l -`
}

// Run prints the page.
func (manCommand) Run(std *daemon.Stdio, k *kong.Context) error {
	_, err := std.Out.Write(reference.Man(k.Model, versionString()))
	return err
}
