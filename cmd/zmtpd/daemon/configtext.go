package daemon

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"zmtpd/curve/zeekkeys"
)

const exampleHead = `# Configuration of zmtpd, for --config or ZMTPD_CONFIG.
#
# The command line wins over a flag's environment variable, and the variable over this file. The
# flags of all daemons stand at the top level; each daemon takes those that it has. A section with
# the name of a command, such as "up:", has flags for that command only.
#
# To set a flag, remove the "#" in front of its name. The values here are the defaults.
`

// WriteExample writes a configuration file with every flag of the daemons, its help and its
// default.
func WriteExample(w io.Writer, model *kong.Application) error {
	b := bytes.NewBufferString(exampleHead)
	seen := map[string]bool{}
	for _, command := range model.Children {
		if !isDaemon(command) {
			continue
		}
		for _, flag := range command.Flags {
			if seen[flag.Name] {
				continue
			}
			seen[flag.Name] = true
			b.WriteByte('\n')
			for _, line := range wrap(flag.Help+" ($"+strings.Join(flag.Envs, ", $")+")", 98) {
				fmt.Fprintf(b, "# %s\n", line)
			}
			if flag.Default == "" {
				fmt.Fprintf(b, "#%s:\n", flag.Name)
				continue
			}
			text := yamlScalar(flag.Default)
			if flag.Target.Kind() == reflect.Slice {
				text = "[" + text + "]"
			}
			fmt.Fprintf(b, "#%s: %s\n", flag.Name, text)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// yamlScalar returns a text in the form that it has in a list or behind a key.
func yamlScalar(text string) string {
	var list []yaml.Node
	if err := yaml.Unmarshal([]byte("["+text+"]"), &list); err == nil && len(list) == 1 &&
		list[0].Kind == yaml.ScalarNode && list[0].Tag != "!!null" && list[0].Value == text {
		return text
	}
	return fmt.Sprintf("%q", text)
}

// wrap breaks text into lines of at most width bytes. A longer word has a line of its own.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// WriteFlags writes the flags of the command that was parsed as a configuration file, with the
// origin of each value. It names the variables with Zeek's secret keys without their values.
func WriteFlags(w io.Writer, parsed *kong.Context) error {
	command := parsed.Selected()
	b := fmt.Appendf(nil, "# zmtpd %s\n", command.Name)
	indent := ""
	if !isDaemon(command) {
		b = fmt.Appendf(b, "%s:\n", command.Name)
		indent = "  "
	}
	given := map[*kong.Flag]bool{}
	for _, element := range parsed.Path {
		if element.Flag != nil && !element.Resolved {
			given[element.Flag] = true
		}
	}
	var file *configFile
	if name := ConfigName(parsed); name != "" {
		var err error
		if file, err = readConfig(name, parsed.Model); err != nil {
			return err
		}
	}
	for _, flag := range command.Flags {
		origin := "default"
		switch variable := setVariable(flag); {
		case given[flag]:
			origin = "command line"
		case variable != "":
			origin = variable
		case file != nil:
			if node, ok := file.lookup(command, flag); ok {
				origin = fmt.Sprintf("%s:%d", ConfigName(parsed), node.Line)
			}
		}
		text := valueText(flag.Target)
		key := flag.Name
		if text == "" { // the default is to have no value
			key = "#" + key
		}
		b = fmt.Appendf(b, "%s%s:%s # %s\n", indent, key, strings.TrimRight(" "+text, " "), origin)
	}
	for _, name := range zeekkeys.Names() {
		switch value := os.Getenv(name); {
		case value == "":
		case name == zeekkeys.ServerSecret || name == zeekkeys.ClientSecret:
			b = fmt.Appendf(b, "# %s: set, not shown\n", name)
		default:
			b = fmt.Appendf(b, "# %s: %s\n", name, value)
		}
	}
	_, err := w.Write(b)
	return err
}

// valueText returns the value of a flag as YAML, "" for none.
func valueText(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice {
		all := []string{}
		for i := range v.Len() {
			all = append(all, yamlScalar(fmt.Sprint(v.Index(i).Interface())))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	text := fmt.Sprint(v.Interface())
	if text == "" {
		return ""
	}
	return yamlScalar(text)
}

// setVariable returns the variable from which a flag's value is taken, "" for none.
func setVariable(flag *kong.Flag) string {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return name
		}
	}
	return ""
}
