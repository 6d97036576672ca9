package cluster

import (
	"fmt"
	"io"
	"strings"
)

// Redef is the value that a script gives an option.
type Redef struct {
	// Values are the constants in it: one, or the elements of a vector. Strings are without quotes.
	Values []string
	Line   int // of the last redef
}

// ParseRedefs reads the redefs of a module's options, such as those of "Cluster::Backend::ZeroMQ",
// by the option's name without the module:
//
//	redef Cluster::Backend::ZeroMQ::run_proxy_thread = F;
//	redef Cluster::Backend::ZeroMQ::connect_log_endpoints += vector("tcp://127.0.0.1:5557");
//
// It ignores everything else in the script. It does not evaluate it: conditions (@if) count as
// true, and values are constants.
func ParseRedefs(r io.Reader, module string) (map[string]Redef, error) {
	script, err := io.ReadAll(io.LimitReader(r, maxLayoutSize+1))
	if err != nil {
		return nil, err
	}
	if len(script) > maxLayoutSize {
		return nil, fmt.Errorf("the script has more than %d bytes", maxLayoutSize)
	}
	all := map[string]Redef{}
	s := scriptTokens{text: string(script), line: 1}
	for token := s.next(); token != ""; token = s.next() {
		if token != "redef" {
			continue
		}
		name, ok := strings.CutPrefix(s.next(), module+"::")
		if !ok {
			continue
		}
		r := Redef{Line: s.line}
		if op := s.next(); op == "+=" {
			r.Values = all[name].Values
		} else if op != "=" {
			continue
		}
		for token = s.next(); token != "" && token != ";"; token = s.next() {
			if text, quoted := strings.CutPrefix(token, `"`); quoted {
				r.Values = append(r.Values, text)
			} else if isWord(token[0]) && token != "vector" {
				r.Values = append(r.Values, token)
			}
		}
		all[name] = r
	}
	return all, nil
}
