package doctor

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// docs/doctor.md describes the faults that the program knows. "make reference" sets ZMTPD_UPDATE=1,
// with which the test writes it.
func TestReference(t *testing.T) {
	const name = "../../../docs/doctor.md"
	want := docs()
	if os.Getenv("ZMTPD_UPDATE") != "" {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Error("docs/doctor.md is not current; make reference writes it")
	}
}

const docsHead = `# zmtpd doctor

` + "`zmtpd doctor`" + ` finds what is wrong with a cluster that uses zmtpd, and says what to do. It compares
the files of Zeek, the configuration of zmtpd, and what listens and runs:

` + "```" + `
zmtpd doctor up --config /etc/zmtpd/zmtpd.yaml
zmtpd doctor --layout cluster-layout.zeek --script zmtpd.zeek up
zmtpd doctor --zeek /opt/zeek forwarder --xsub tcp://10.0.0.1:27761 --xpub tcp://10.0.0.1:27760
zmtpd doctor store-server --store zeek --store-dir /var/lib/zmtpd/stores
zmtpd doctor --offline --layout cluster-layout.zeek --script zmtpd.zeek up   # before the start
` + "```" + `

Run it on zmtpd's host as zmtpd's user: limits, folders and keys depend on the user. It connects to
the endpoints without sending a message, and writes a file of 4 MiB into each folder of zmtpd, which
it removes again. It changes nothing else.

| exit status | |
|---|---|
| 0 | no fault was found |
| 1 | there are faults; they are printed, the most important first |
| 2 | the command line is wrong |

` + "`--json`" + ` prints one object for scripts: ` + "`healthy`, `faults` (`fault`, `severity`, `where`, `what`," + `
` + "`remedy`) and `checked`" + `. Names of faults do not change.

## Faults

<!-- Made from the code by ` + "`make reference`" + `. -->
`

// docs returns the text of docs/doctor.md.
func docs() string {
	var b strings.Builder
	b.WriteString(docsHead)
	for _, f := range Faults {
		fmt.Fprintf(&b, "\n### %s\n\n", f.Name)
		writeWrapped(&b, fmt.Sprintf("*%s.* %s", strings.ToUpper(string(f.Severity[:1]))+
			string(f.Severity[1:]), f.Meaning))
		b.WriteByte('\n')
		writeWrapped(&b, "**To do:** "+f.Remedy)
	}
	return b.String()
}

// writeWrapped writes a paragraph with lines of at most 100 columns.
func writeWrapped(b *strings.Builder, text string) {
	column := 0
	for word := range strings.FieldsSeq(text) {
		if column > 0 && column+1+len(word) > 100 {
			b.WriteByte('\n')
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
}
