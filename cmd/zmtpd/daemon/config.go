package daemon

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// A flag's value is taken from the command line, else from its environment variable,
// else from the file of --config, else it is the default.
//
// The daemons share their flags, so they share the names as well: --sndhwm is ZMTPD_SNDHWM, and
// "sndhwm" at the top of the file. A tool's flags mean something else under the same
// names (--xsub is where the broker listens and where replay connects), so its command
// is part of theirs: ZMTPD_REPLAY_XSUB, and "xsub" in the section "replay". A daemon may
// have a section too, which wins over the top.

// Group is the group of the daemons in the grammar. They share the names of their flags.
const Group = "daemons"

// isDaemon reports whether a command's flags are named without the command.
func isDaemon(command *kong.Node) bool {
	return command.Group != nil && command.Group.Key == Group
}

// NameVariables gives every flag but --help its environment variable.
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

// CheckConfig returns the first fault in a configuration file, with its line.
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
	file, err := parseConfig(text, model)
	if fault, ok := errors.AsType[*configFault](err); ok {
		return nil, fmt.Errorf("%s:%d: %w", name, fault.line, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return file, nil
}

// configFault is a fault in a line of a configuration file.
type configFault struct {
	line int
	text string
}

func (f *configFault) Error() string { return f.text }

func faultf(node yaml.Node, format string, args ...any) error {
	return &configFault{node.Line, fmt.Sprintf(format, args...)}
}

// configFile is a checked configuration file: every key in it is a flag. It is a
// kong.Resolver.
type configFile struct {
	top      map[string]yaml.Node
	sections map[string]map[string]yaml.Node // by command
}

// parseConfig reads a configuration file. It refuses keys that are no flags, wherever
// they stand, so that no typing error goes unnoticed.
func parseConfig(text []byte, model *kong.Application) (*configFile, error) {
	c := &configFile{top: map[string]yaml.Node{}, sections: map[string]map[string]yaml.Node{}}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := decoder.Decode(&c.top); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil,
			errors.New("more than one YAML document, only one is read: remove the lines of ---")
	}

	commands := map[string]map[string]*kong.Flag{}
	daemons := map[string]*kong.Flag{}
	for _, command := range model.Children {
		flags := map[string]*kong.Flag{}
		for _, flag := range command.Flags {
			flags[flag.Name] = flag
		}
		commands[command.Name] = flags
		if isDaemon(command) {
			maps.Copy(daemons, flags)
		}
	}
	for key, node := range c.top {
		if flags := commands[key]; flags != nil && node.Kind == yaml.MappingNode {
			section := map[string]yaml.Node{}
			if err := node.Decode(&section); err != nil {
				return nil, err
			}
			if err := checkKeys(section, flags, "command "+key); err != nil {
				return nil, err
			}
			c.sections[key] = section
			delete(c.top, key)
		}
	}
	return c, checkKeys(c.top, daemons, "daemons")
}

// checkKeys refuses keys that are no flags of whom, and values that a flag cannot take.
func checkKeys(values map[string]yaml.Node, flags map[string]*kong.Flag, whom string) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		node := values[key]
		flag := flags[key]
		if flag == nil {
			known := slices.Sorted(maps.Keys(flags))
			if nearest := nearest(key, known); nearest != "" {
				return faultf(node, "%q is no flag of the %s; the nearest is %q", key, whom,
					nearest)
			}
			return faultf(node,
				"%q is no flag of the %s, which have %s; flags of a tool stand in a section with "+
					"its name",
				key, whom, strings.Join(known, ", "))
		}
		value, err := flagValue(flag, node)
		if err == nil {
			err = checkValue(flag, value)
		}
		if err != nil {
			return faultf(node, "%s: %s: %v", key, shorten(node), err)
		}
	}
	return nil
}

// shorten returns the value of a node for an error.
func shorten(node yaml.Node) string {
	if node.Kind == yaml.ScalarNode {
		return fmt.Sprintf("%.80q", node.Value)
	}
	return "the value"
}

// checkValue reports whether a flag takes a value.
func checkValue(flag *kong.Flag, value any) error {
	target := reflect.New(flag.Target.Type()).Elem()
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

// Resolve implements [kong.Resolver]. kong prefers what it returns to the environment,
// so it has no value for a flag whose variable is set.
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

// flagValue returns a value in the form in which kong parses it: text as on the command
// line, or a list.
func flagValue(flag *kong.Flag, node yaml.Node) (any, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return nil, errors.New(`no value; write "" for an empty one, or remove the line`)
		}
		return node.Value, nil
	case yaml.SequenceNode:
		if flag.Target.Kind() != reflect.Slice {
			return nil, errors.New("a list, but the flag takes one value")
		}
		list := make([]any, len(node.Content))
		for i, item := range node.Content {
			if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
				return nil, fmt.Errorf("item %d of the list is no plain value", i+1)
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
