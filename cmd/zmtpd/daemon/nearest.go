package daemon

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// nearest returns the name that a mistyped one most likely stands for, "" if none is near.
func nearest(typed string, known []string) string {
	best, distance := "", max(2, len(typed)/3)+1
	for _, name := range known {
		if d := editDistance(typed, name, distance); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance returns how many bytes have to be inserted, removed or replaced to make b of a
// (Levenshtein), or limit if that are more.
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
	// variablePrefix is how the variables of all flags begin.
	variablePrefix = "ZMTPD_"
	// testPrefix is how variables begin that are for zmtpd's own tests.
	testPrefix = "ZMTPD_TEST_"
)

// UnknownVariables names the environment variables that look like those of flags and are none.
func UnknownVariables(model *kong.Application) (faults []string) {
	known := variables(model)
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || strings.HasPrefix(name, testPrefix) ||
			slices.Contains(known, name) {
			continue
		}
		fault := fmt.Sprintf("variable %s has no effect: no flag has that name", name)
		if n := nearest(name, known); n != "" {
			fault += "; the nearest is " + n
		}
		faults = append(faults, fault)
	}
	slices.Sort(faults)
	return faults
}

// variables returns the variables of all flags.
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
