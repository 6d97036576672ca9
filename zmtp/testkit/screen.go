package testkit

import "strings"

// Screen returns the lines that a terminal without escape sequences shows after it was written to.
func Screen(written string) (lines []string) {
	for line := range strings.SplitSeq(written, "\n") {
		var cells []byte
		column := 0
		for _, c := range []byte(line) {
			if c == '\r' {
				column = 0
				continue
			}
			if column == len(cells) {
				cells = append(cells, 0)
			}
			cells[column] = c
			column++
		}
		lines = append(lines, strings.TrimRight(string(cells), " "))
	}
	return lines
}
