package reference

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// Man returns the manual page zmtpd(1), in the macros of man(7).
func Man(app *kong.Application, version string) []byte {
	b := new(bytes.Buffer)
	fmt.Fprintf(b, ".TH ZMTPD 1 \"\" \"zmtpd %s\" \"User Commands\"\n", roff(version))
	summary, detail, _ := strings.Cut(app.Help, "\n\n")
	fmt.Fprintf(b, ".SH NAME\nzmtpd \\- %s\n", roff(strings.TrimSuffix(summary, ".")))
	b.WriteString(".SH SYNOPSIS\n.B zmtpd\n.I COMMAND\n[flags]\n.SH DESCRIPTION\n")
	writeRoff(b, detail)
	b.WriteString(".SH OPTIONS\n")
	manFlags(b, app.Flags)
	b.WriteString(".SH COMMANDS\n")
	for _, command := range app.Leaves(true) {
		fmt.Fprintf(b, ".SS %s\n.B zmtpd %s\n.PP\n", roff(command.Path()), roff(command.Summary()))
		writeRoff(b, command.Help)
		if command.Detail != "" {
			b.WriteString(".PP\n")
			writeRoff(b, command.Detail)
		}
		for _, p := range command.Positional {
			fmt.Fprintf(b, ".TP\n.I %s\n", roff(p.Summary()))
			writeRoff(b, p.Help)
		}
		for _, group := range flagGroups(command) {
			if group.title != "" {
				fmt.Fprintf(b, ".PP\n.I %s\n", roff(group.title))
			}
			manFlags(b, group.flags)
		}
	}
	b.WriteString(".SH EXIT STATUS\n0 after an orderly end, 2 for a mistake in the command line or " +
		"the configuration, 1 for any other failure.\n")
	b.WriteString(".SH FILES\n.TP\n.I /etc/zmtpd/zmtpd.yaml\nConfiguration of the service.\n")
	return b.Bytes()
}

func manFlags(b *bytes.Buffer, flags []*kong.Flag) {
	for _, flag := range flags {
		if flag.Hidden {
			continue
		}
		fmt.Fprintf(b, ".TP\n.B %s\n", roff(flagText(flag)))
		help := flag.Help
		if flag.Default != "" {
			help += " Default: " + flag.Default + "."
		}
		if len(flag.Envs) > 0 {
			help += " ($" + strings.Join(flag.Envs, ", $") + ")"
		}
		writeRoff(b, help)
	}
}

// writeRoff writes paragraphs of help. Lines that are indented keep their ends.
func writeRoff(b *bytes.Buffer, text string) {
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
			b.WriteString(".PP\n")
		case strings.HasPrefix(line, " "), strings.HasPrefix(line, "\t"):
			fmt.Fprintf(b, ".br\n%s\n", roff(strings.TrimSpace(line)))
		default:
			fmt.Fprintf(b, "%s\n", roff(line))
		}
	}
}

// roff protects text: a dot or quote at the beginning of a line would be a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
