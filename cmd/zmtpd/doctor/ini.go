package doctor

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxFile bounds a file in bytes.
const maxFile = 4 << 20

// readFile reads a file of bounded size.
func readFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes; is this the right file?", name, maxFile)
	}
	return string(text), err
}

// section is a section of an INI file.
type section struct {
	name string
	line int
	keys []setting
}

// setting is a value with its place.
type setting struct {
	key, value string // the key in lower case
	line       int
}

// get returns the value of a key, "" for none.
func (s *section) get(key string) string {
	for _, k := range s.keys {
		if k.key == key {
			return k.value
		}
	}
	return ""
}

// lineOf returns the line of a key, that of the section if there is none.
func (s *section) lineOf(key string) int {
	for _, k := range s.keys {
		if k.key == key {
			return k.line
		}
	}
	return s.line
}

// parseINI parses the syntax of Python's ConfigParser, with which zeekctl reads node.cfg. fault is
// called for each line with a fault. A library for INI files has other rules for duplicates,
// continued lines and comments, and does not tell lines.
func parseINI(text string, fault func(line int, what string)) (sections []section) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		trimmed := strings.TrimLeft(line, " \t")
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
			continue
		case trimmed[0] == '[':
			name, _, ok := strings.Cut(trimmed[1:], "]")
			if !ok || name == "" {
				fault(n, fmt.Sprintf("%q is no section: write [name]", trimmed))
				continue
			}
			for _, s := range sections {
				if s.name == name {
					fault(n, fmt.Sprintf("section [%s] exists already in line %d", name, s.line))
				}
			}
			sections = append(sections, section{name: name, line: n})
			continue
		case len(sections) == 0:
			fault(n, fmt.Sprintf("%q before the first [section]", trimmed))
			continue
		}
		s := &sections[len(sections)-1]
		if trimmed != line && len(s.keys) > 0 { // continues the value above
			s.keys[len(s.keys)-1].value += "\n" + trimmed
			continue
		}
		i := strings.IndexAny(trimmed, "=:")
		if i <= 0 {
			fault(n, fmt.Sprintf("%q is no setting: write key=value", trimmed))
			continue
		}
		key := strings.ToLower(strings.TrimSpace(trimmed[:i]))
		if s.get(key) != "" {
			fault(n, fmt.Sprintf("%s is set twice in section [%s]", key, s.name))
		}
		s.keys = append(s.keys, setting{key, strings.TrimSpace(trimmed[i+1:]), n})
	}
	return sections
}

// parseOptions parses the lines "Option = value" of zeekctl.cfg. Names are in lower case.
func parseOptions(text string, fault func(line int, what string)) map[string]setting {
	options := map[string]setting{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			fault(n, fmt.Sprintf("%q is no option: write Option = value", line))
			continue
		}
		options[key] = setting{key, strings.TrimSpace(value), n}
	}
	return options
}
