package daemon

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// A flag's value is taken from the command line, else from its environment variable, else from the
// file of --config, else it is the default.
//
// The daemons share their flags, and so the names: --sndhwm is ZMTPD_SNDHWM, and "sndhwm" at the
// top of the file. A flag of a tool may mean something else under the same name: the broker listens
// at --xsub, and replay connects to it. So the name of a tool is part of its variables and the name
// of its section: ZMTPD_REPLAY_XSUB, and "xsub" in the section "replay". A daemon may have a
// section too, which wins over the top.

// Group is the group of the daemons in the grammar.
const Group = "daemons"

// isDaemon reports whether a command's flags are named without the command.
func isDaemon(command *kong.Node) bool {
	return command.Group != nil && command.Group.Key == Group
}

// NameVariables gives every flag except --help and --version its environment variable.
func NameVariables(k *kong.Kong) error {
	name := func(flag *kong.Flag, prefix string) {
		if flag.Name != "help" && flag.Name != "version" {
			flag.Envs = []string{prefix + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))}
			flag.Tag.Envs = flag.Envs
		}
	}
	for _, flag := range k.Model.Flags {
		name(flag, variablePrefix)
	}
	for _, command := range k.Model.Children {
		prefix := variablePrefix
		if !isDaemon(command) {
			prefix += strings.ToUpper(command.Name) + "_"
		}
		for _, flag := range command.Flags {
			name(flag, prefix)
		}
	}
	return nil
}

// ConfigFlag is the name of a configuration file.
type ConfigFlag string

// maxConfigSize bounds what is read of a configuration file.
const maxConfigSize = 1 << 20

// BeforeResolve is called by kong when the flag or its variable is set.
func (ConfigFlag) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	name := string(ctx.FlagValue(trace.Flag).(ConfigFlag))
	if name == "" {
		return nil
	}
	file, err := readConfig(name, ctx.Model)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	ctx.AddResolver(file)
	return nil
}

// CheckConfig returns the faults in a configuration file, a line for each with the file's name and
// the line in it.
func CheckConfig(name string, model *kong.Application) error {
	_, err := readConfig(name, model)
	return err
}

// readConfig reads and checks a configuration file.
func readConfig(name string, model *kong.Application) (*configFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxConfigSize {
		return nil, fmt.Errorf("%s: more than %d bytes; is this the right file?", name,
			maxConfigSize)
	}
	file, faults := parseConfig(text, model)
	if len(faults) == 0 {
		return file, nil
	}
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.line, b.line) })
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = fmt.Errorf("%s:%d: %s", name, f.line, f.text)
	}
	return nil, errors.Join(errs...)
}

// fault is a fault in a line of a configuration file.
type fault struct {
	line int
	text string
}

func faultf(node yaml.Node, format string, args ...any) fault {
	return fault{node.Line, fmt.Sprintf(format, args...)}
}

// yamlLine is how the YAML library begins a fault with its line.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// yamlFaults returns the faults of a text that is not YAML.
func yamlFaults(err error) (faults []fault) {
	all := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		all = e.Errors
	}
	for _, text := range all {
		line := 1
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = text[len(m[0]):]
		}
		faults = append(faults, fault{line, "not valid YAML: " + text})
	}
	return faults
}

// configFile is a checked configuration file: every key in it is a flag. It is a [kong.Resolver].
type configFile struct {
	top      map[string]yaml.Node
	sections map[string]map[string]yaml.Node // by command
}

// parseConfig parses a configuration file. A key that is not a flag is a fault wherever it stands,
// so that no typing error goes unnoticed.
func parseConfig(text []byte, model *kong.Application) (c *configFile, faults []fault) {
	c = &configFile{top: map[string]yaml.Node{}, sections: map[string]map[string]yaml.Node{}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	err := decoder.Decode(&document)
	if err == nil {
		if root := document.Content[0]; root.Kind != yaml.MappingNode {
			return nil, []fault{faultf(*root,
				`not a configuration: write lines of the form "flag: value"`)}
		}
		c.top, err = decodeMapping(document.Content[0])
	}
	if err != nil && !errors.Is(err, io.EOF) { // an empty file ends at once
		return nil, yamlFaults(err)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, []fault{{max(second.Line, 1), "a second YAML document: only the first one is " +
			"read; remove the line ---"}}
	}

	daemons := map[string]*kong.Flag{}
	for _, command := range model.Children {
		flags := map[string]*kong.Flag{}
		for _, flag := range command.Flags {
			flags[flag.Name] = flag
		}
		if isDaemon(command) {
			maps.Copy(daemons, flags)
		}
		node, ok := c.top[command.Name]
		if !ok || node.Kind != yaml.MappingNode {
			continue
		}
		section, err := decodeMapping(&node)
		if err != nil {
			faults = append(faults, yamlFaults(err)...)
		}
		faults = append(faults, checkKeys(section, flags, nil, "zmtpd "+command.Name)...)
		c.sections[command.Name] = section
		delete(c.top, command.Name)
	}
	commands := make([]string, len(model.Children))
	for i, command := range model.Children {
		commands[i] = command.Name
	}
	return c, append(faults, checkKeys(c.top, daemons, commands, "the daemons")...)
}

// decodeMapping returns the values of a mapping. Each has the line of its key.
func decodeMapping(node *yaml.Node) (values map[string]yaml.Node, err error) {
	if err := node.Decode(&values); err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if value, ok := values[node.Content[i].Value]; ok {
			value.Line = node.Content[i].Line
			values[node.Content[i].Value] = value
		}
	}
	return values, nil
}

// checkKeys returns a fault for each key that is neither a flag of whom nor a section, and for each
// value that its flag cannot take.
func checkKeys(values map[string]yaml.Node, flags map[string]*kong.Flag, sections []string,
	whom string) (faults []fault) {
	for key, node := range values {
		flag := flags[key]
		if flag == nil {
			text := fmt.Sprintf("%q is no flag of %s", key, whom)
			known := append(slices.Sorted(maps.Keys(flags)), sections...)
			if slices.Contains(sections, key) {
				text = fmt.Sprintf("%q is a command: write its flags below it, indented", key)
			} else if nearest := nearest(key, known); nearest != "" {
				text += fmt.Sprintf("; the nearest name is %q", nearest)
			} else if sections != nil {
				text += "; zmtpd config init prints them all; flags of a tool stand in a section " +
					"with its name"
			} else {
				text += "; " + whom + " --help lists them"
			}
			faults = append(faults, faultf(node, "%s", text))
			continue
		}
		value, err := flagValue(flag, node)
		if err == nil {
			err = checkValue(flag, value)
		}
		if err != nil {
			faults = append(faults, faultf(node, "%s: %v", describeValue(key, node), err))
		}
	}
	return faults
}

// describeValue returns a key and its value for an error.
func describeValue(key string, node yaml.Node) string {
	if node.Kind == yaml.ScalarNode && node.Value != "" {
		return fmt.Sprintf("%s: %.80q", key, node.Value)
	}
	return key
}

// checkValue returns why a flag does not take a value, or nil.
func checkValue(flag *kong.Flag, value any) error {
	target := reflect.New(flag.Target.Type()).Elem()
	if target.Kind() == reflect.Pointer { // as kong does before it parses
		target.Set(reflect.New(target.Type().Elem()))
	}
	scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan},
		target); err != nil {
		return err
	}
	if flag.Enum == "" {
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, v := range list {
		if text := fmt.Sprint(v); !flag.EnumMap()[text] {
			return fmt.Errorf("%q is none of %s", text, strings.Trim(flag.Enum, ","))
		}
	}
	return nil
}

// Validate implements [kong.Resolver].
func (c *configFile) Validate(*kong.Application) error { return nil }

// Resolve implements [kong.Resolver]. kong prefers its result to the environment. So it returns
// none for a flag whose variable is set.
func (c *configFile) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if setVariable(flag) != "" || parent.Command == nil {
		return nil, nil
	}
	node, ok := c.lookup(parent.Command, flag)
	if !ok {
		return nil, nil
	}
	return flagValue(flag, node)
}

// lookup returns the value of a command's flag.
func (c *configFile) lookup(command *kong.Node, flag *kong.Flag) (yaml.Node, bool) {
	node, ok := c.sections[command.Name][flag.Name]
	if !ok && isDaemon(command) {
		node, ok = c.top[flag.Name]
	}
	return node, ok
}

// flagValue returns a value in the form that kong parses: text as on the command line, or a list.
func flagValue(flag *kong.Flag, node yaml.Node) (any, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return nil, errors.New(`it has no value; write "" for an empty one, or remove the line`)
		}
		return node.Value, nil
	case yaml.SequenceNode:
		if flag.Target.Kind() != reflect.Slice {
			return nil, errors.New("a list where the flag takes one value")
		}
		list := make([]any, len(node.Content))
		for i, item := range node.Content {
			if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
				return nil, fmt.Errorf("item %d of the list is not a plain value", i+1)
			}
			list[i] = item.Value
			if flag.Target.Type().Elem().Kind() != reflect.String {
				if err := item.Decode(&list[i]); err != nil {
					return nil, err
				}
			}
		}
		return list, nil
	}
	return nil, errors.New("neither a value nor a list")
}

// ConfigName returns the name of the configuration file that was parsed, "" for none.
func ConfigName(c *kong.Context) string {
	for _, flag := range c.Flags() {
		if name, ok := flag.Target.Interface().(ConfigFlag); ok {
			return string(name)
		}
	}
	return ""
}
