package reference

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// DaemonFlags returns a table in Markdown with every flag of the commands of one group: its
// variable, its default, the commands that have it, and whether a change takes effect on SIGHUP,
// which the tag reload says.
func DaemonFlags(app *kong.Application, group, reload string) []byte {
	b := bytes.NewBufferString("| flag | variable | default | of | on SIGHUP |\n|---|---|---|---|---|\n")
	type row struct {
		flag *kong.Flag
		of   []string
	}
	var rows []row
	for _, command := range app.Children {
		if command.Group == nil || command.Group.Key != group {
			continue
		}
		for _, flag := range command.Flags {
			i := slices.IndexFunc(rows, func(r row) bool { return r.flag.Name == flag.Name })
			if i < 0 {
				i = len(rows)
				rows = append(rows, row{flag: flag})
			}
			rows[i].of = append(rows[i].of, command.Name)
		}
	}
	for _, r := range rows {
		effect := ""
		if r.flag.Tag.Has(reload) {
			effect = "yes"
		}
		fmt.Fprintf(b, "| `--%s` | `%s` | %s | %s | %s |\n", r.flag.Name,
			strings.Join(r.flag.Envs, "`, `"), code(r.flag.Default), strings.Join(r.of, ", "), effect)
	}
	return b.Bytes()
}
