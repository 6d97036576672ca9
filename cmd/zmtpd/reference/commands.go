package reference

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// made is the first line of a page that is made from the code.
const made = "<!-- Made from the code by `make reference`. -->\n"

// Commands returns a page with every command, its arguments and its flags, in Markdown.
func Commands(app *kong.Application) []byte {
	b := bytes.NewBufferString(made)
	b.WriteString("# Commands and flags\n\n")
	b.WriteString("`zmtpd COMMAND --help` prints the same. Every flag can also be set in a file or by an\n" +
		"environment variable, see [configuration.md](configuration.md). A flag with `,...` takes a list\n" +
		"with commas. The exit status is 0 after an orderly end, 2 for a mistake in the command line or\n" +
		"the configuration, and 1 for any other failure, such as records that could not be written at the\n" +
		"end. SIGTERM and SIGINT end a daemon in order, a second one at once.\n\n")
	b.WriteString("| command | |\n|---|---|\n")
	for _, command := range app.Leaves(true) {
		fmt.Fprintf(b, "| [`zmtpd %s`](#zmtpd-%s) | %s |\n", command.Path(),
			strings.ReplaceAll(command.Path(), " ", "-"), cell(command.Help))
	}
	b.WriteString("\n## Flags of every command\n\n")
	flagTable(b, app.Flags)
	for _, command := range app.Leaves(true) {
		writeCommand(b, command)
	}
	return b.Bytes()
}

func writeCommand(b *bytes.Buffer, command *kong.Node) {
	fmt.Fprintf(b, "\n## zmtpd %s\n\n`zmtpd %s`\n\n%s\n", command.Path(), command.Summary(),
		prose(command.Help))
	if command.Detail != "" {
		fmt.Fprintf(b, "\n%s\n", prose(command.Detail))
	}
	if len(command.Positional) > 0 {
		b.WriteString("\n| argument | |\n|---|---|\n")
		for _, p := range command.Positional {
			fmt.Fprintf(b, "| `%s` | %s |\n", p.Summary(), cell(p.Help))
		}
	}
	for _, group := range flagGroups(command) {
		if group.title != "" {
			fmt.Fprintf(b, "\n%s\n", group.title)
		}
		b.WriteByte('\n')
		flagTable(b, group.flags)
	}
}

// flagGroup has the flags of a command below one title, "" for none.
type flagGroup struct {
	title string
	flags []*kong.Flag
}

// flagGroups returns the flags of a command in groups, each in the order of its first flag.
func flagGroups(command *kong.Node) (groups []flagGroup) {
	at := map[string]int{}
	for _, flag := range command.Flags {
		if flag.Hidden {
			continue
		}
		title := ""
		if flag.Group != nil {
			title = flag.Group.Title
		}
		i, ok := at[title]
		if !ok {
			i = len(groups)
			at[title] = i
			groups = append(groups, flagGroup{title: title})
		}
		groups[i].flags = append(groups[i].flags, flag)
	}
	return groups
}

func flagTable(b *bytes.Buffer, flags []*kong.Flag) {
	b.WriteString("| flag | default | |\n|---|---|---|\n")
	for _, flag := range flags {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", strings.ReplaceAll(flagText(flag), "|", `\|`),
			code(flag.Default), cell(flag.Help))
	}
}

// flagText returns a flag with its value, as in --dir=DIR.
func flagText(flag *kong.Flag) string {
	text := "--" + flag.Name
	if flag.Tag.Negatable != "" {
		text = "--[no-]" + flag.Name
	}
	if flag.Short != 0 {
		text = fmt.Sprintf("-%c, %s", flag.Short, text)
	}
	if value := valueName(flag); value != "" {
		text += "=" + value
	}
	return text
}

// valueName returns what stands for the value of a flag, "" for a flag without one.
func valueName(flag *kong.Flag) string {
	if flag.IsBool() || flag.IsCounter() {
		return ""
	}
	name := flag.PlaceHolder
	switch {
	case name != "":
	case flag.Enum != "":
		name = strings.Join(choices(flag), "|")
	case strings.Contains(flag.Default, "://"):
		name = "ENDPOINT"
	case strings.HasSuffix(flag.Default, "iB"):
		name = "SIZE"
	default:
		name = "VALUE"
		if _, err := strconv.Atoi(flag.Default); err == nil {
			name = "N"
		} else if _, err := time.ParseDuration(flag.Default); err == nil {
			name = "TIME"
		}
	}
	if flag.IsSlice() && flag.Tag.Sep != -1 {
		name += ",..."
	}
	return name
}

// choices returns the values of an enum.
func choices(flag *kong.Flag) (all []string) {
	if flag.Enum == "" {
		return nil
	}
	for _, c := range flag.EnumSlice() {
		if c != "" {
			all = append(all, c)
		}
	}
	return all
}

// cell returns text for a cell of a table.
func cell(text string) string {
	return strings.ReplaceAll(escape(strings.Join(strings.Fields(text), " ")), "|", `\|`)
}

// code returns a value as code for a cell, nothing for no value.
func code(value string) string {
	if value == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(value, "|", `\|`) + "`"
}

// prose returns paragraphs of help. Lines that are indented stay as they are, as code.
func prose(text string) string {
	var lines []string
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			line = "    " + strings.TrimSpace(line)
		} else {
			line = escape(line)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// escape protects characters of help that Markdown would take for its own.
func escape(text string) string {
	return strings.NewReplacer("<", `\<`, "*", `\*`, "_", `\_`).Replace(text)
}
