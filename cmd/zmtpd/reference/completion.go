package reference

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// place is what may stand behind the commands of a command line.
type place struct {
	path     string // the commands, "" for none
	commands []*kong.Node
	flags    []*kong.Flag
}

// places returns all places of a command line, the empty one first.
func places(node *kong.Node) []place {
	p := place{path: node.Path()}
	for _, group := range node.AllFlags(true) {
		p.flags = append(p.flags, group...)
	}
	all := []place{p}
	for _, child := range node.Children {
		if !child.Hidden {
			all[0].commands = append(all[0].commands, child)
			all = append(all, places(child)...)
		}
	}
	return all
}

// names returns the commands and flags that may stand at a place.
func (p *place) names() (all []string) {
	for _, c := range p.commands {
		all = append(all, c.Name)
	}
	for _, f := range p.flags {
		all = append(all, "--"+f.Name)
	}
	return all
}

// walk writes a loop that finds the place of the cursor: the words before it that are commands. In
// both shells, words from first to below end are elements of an array.
func walk(b *bytes.Buffer, all []place, array, first, end string) {
	fmt.Fprintf(b, "    local at= i\n    for ((i = %s; i < %s; i++)); do\n", first, end)
	fmt.Fprintf(b, "        case \"$at ${%s[i]}\" in\n        ", array)
	for i, p := range all[1:] {
		if i > 0 {
			b.WriteString(" | ")
		}
		parent, name := "", p.path
		if j := strings.LastIndexByte(name, ' '); j >= 0 {
			parent, name = name[:j], name[j+1:]
		}
		fmt.Fprintf(b, "%q", parent+" "+name)
	}
	fmt.Fprintf(b, ")\n            at=${at:+$at }${%s[i]} ;;\n        esac\n    done\n", array)
}

// Bash returns a script that completes command lines in bash.
func Bash(app *kong.Application) []byte {
	all := places(app.Node)
	b := bytes.NewBufferString("# Completion of zmtpd in bash. Made by: zmtpd completion bash\n" +
		"_zmtpd() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n" +
		"    if [[ $cur == = ]]; then # bash takes --flag=value for three words\n        cur=\n" +
		"    elif [[ $prev == = ]]; then\n        prev=${COMP_WORDS[COMP_CWORD-2]}\n    fi\n")
	walk(b, all, "COMP_WORDS", "1", "COMP_CWORD")
	b.WriteString("    case \"$at $prev\" in\n")
	for _, p := range all {
		for _, f := range p.flags {
			if valueName(f) == "" {
				continue
			}
			if values := choices(f); len(values) > 0 {
				fmt.Fprintf(b, "    %q) words=%q ;;\n", p.path+" --"+f.Name, strings.Join(values, " "))
			} else {
				fmt.Fprintf(b, "    %q) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n",
					p.path+" --"+f.Name)
			}
		}
	}
	b.WriteString("    *)\n        case \"$at\" in\n")
	for _, p := range all {
		fmt.Fprintf(b, "        %q) words=%q ;;\n", p.path, strings.Join(p.names(), " "))
	}
	b.WriteString("        esac ;;\n    esac\n" +
		"    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n" +
		"    if [[ ${#COMPREPLY[@]} -eq 0 && $cur != -* ]]; then\n" +
		"        COMPREPLY=($(compgen -f -- \"$cur\"))\n    fi\n}\n" +
		"complete -o filenames -F _zmtpd zmtpd\n")
	return b.Bytes()
}

// Zsh returns a script that completes command lines in zsh.
func Zsh(app *kong.Application) []byte {
	all := places(app.Node)
	b := bytes.NewBufferString("#compdef zmtpd\n# Completion of zmtpd in zsh. Made by: " +
		"zmtpd completion zsh\n_zmtpd() {\n    local -a commands flags\n")
	walk(b, all, "words", "2", "CURRENT")
	b.WriteString("    case \"$at\" in\n")
	for _, p := range all {
		fmt.Fprintf(b, "    %q)\n", p.path)
		if len(p.commands) > 0 {
			b.WriteString("        commands=(\n")
			for _, c := range p.commands {
				fmt.Fprintf(b, "            %s\n", quoted(c.Name+":"+firstSentence(c.Help)))
			}
			b.WriteString("        )\n")
		}
		b.WriteString("        flags=(\n")
		for _, f := range p.flags {
			help := strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`).
				Replace(firstSentence(f.Help))
			spec := "--" + f.Name
			if valueName(f) == "" {
				spec += "[" + help + "]"
			} else {
				values := "_files"
				if c := choices(f); len(c) > 0 {
					values = "(" + strings.Join(c, " ") + ")"
				}
				spec += "=[" + help + "]:value:" + values
			}
			fmt.Fprintf(b, "            %s\n", quoted("*"+spec))
		}
		b.WriteString("        )\n        ;;\n")
	}
	b.WriteString("    esac\n    (( ${#commands} )) && _describe command commands\n" +
		"    _arguments -S $flags '*:file:_files'\n}\n" +
		"if [ \"${funcstack[1]}\" = _zmtpd ]; then _zmtpd; else compdef _zmtpd zmtpd; fi\n")
	return b.Bytes()
}

// Fish returns a script that completes command lines in fish.
func Fish(app *kong.Application) []byte {
	b := bytes.NewBufferString("# Completion of zmtpd in fish. Made by: zmtpd completion fish\n")
	for _, p := range places(app.Node) {
		condition := "__fish_use_subcommand"
		if p.path != "" {
			condition = "__fish_seen_subcommand_from " +
				strings.ReplaceAll(p.path, " ", "; and __fish_seen_subcommand_from ")
		}
		for _, c := range p.commands {
			unless := condition
			if p.path != "" {
				var names []string
				for _, c := range p.commands {
					names = append(names, c.Name)
				}
				unless += "; and not __fish_seen_subcommand_from " + strings.Join(names, " ")
			}
			fmt.Fprintf(b, "complete -c zmtpd -f -n %s -a %s -d %s\n", quoted(unless), c.Name,
				quoted(firstSentence(c.Help)))
		}
		for _, f := range p.flags {
			fmt.Fprintf(b, "complete -c zmtpd -n %s -l %s", quoted(condition), f.Name)
			if c := choices(f); len(c) > 0 {
				fmt.Fprintf(b, " -x -a %s", quoted(strings.Join(c, " ")))
			} else if valueName(f) != "" {
				b.WriteString(" -r")
			}
			fmt.Fprintf(b, " -d %s\n", quoted(firstSentence(f.Help)))
		}
	}
	return b.Bytes()
}

// firstSentence returns the beginning of help, which fits a line of a list.
func firstSentence(help string) string {
	first, _, _ := strings.Cut(strings.Join(strings.Fields(help), " "), ". ")
	first, _, _ = strings.Cut(first, "; ")
	return strings.TrimSuffix(first, ".")
}

// quoted returns text in single quotes for a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
