package daemon

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// nearest returns the known name that is most similar to a mistyped one, "" if none is similar.
func nearest(typed string, known []string) string {
	best, distance := "", min(max(2, len(typed)/3)+1, len(typed))
	for _, name := range known {
		if d := editDistance(typed, name, distance); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance returns the Levenshtein distance of a and b in bytes, at most limit.
func editDistance(a, b string, limit int) int {
	if max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return min(row[len(b)], limit)
}

const (
	// variablePrefix begins the variables of all flags.
	variablePrefix = "ZMTPD_"
	// testPrefix begins the variables of zmtpd's own tests.
	testPrefix = "ZMTPD_TEST_"
)

// UnknownVariables returns a line of text for each environment variable that begins as those of
// flags do and belongs to no flag.
func UnknownVariables(model *kong.Application) (faults []string) {
	known := variables(model)
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || strings.HasPrefix(name, testPrefix) ||
			slices.Contains(known, name) {
			continue
		}
		fault := fmt.Sprintf("variable %s has no effect: it belongs to no flag", name)
		if n := nearest(name, known); n != "" {
			fault += "; the nearest name is " + n
		}
		faults = append(faults, fault)
	}
	slices.Sort(faults)
	return faults
}

// variables returns the environment variables of all flags.
func variables(model *kong.Application) (all []string) {
	for _, flag := range model.Flags {
		all = append(all, flag.Envs...)
	}
	for _, command := range model.Children {
		for _, flag := range command.Flags {
			all = append(all, flag.Envs...)
		}
	}
	return all
}
