// Package redef has Zeek's options for log files and their rotation. It reads the scripts in which
// an operator sets them, such as "redef LogAscii::use_json = T;".
package redef

import (
	"compress/gzip"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"zmtpd/pipeline/zeek"
)

// Options are the settings of Zeek's ASCII writer and of its log rotation. Start from
// DefaultOptions; then set fields, or apply an operator's settings with Redef and Redefs.
type Options struct {
	// Format is what a line looks like.
	Format zeek.Options

	// LogDir is Log::default_logdir, the folder of open logs. It is relative to the logger's
	// folder, and made if it is missing. Default: the logger's folder.
	LogDir string
	// RotationInterval is Log::default_rotation_interval, at least a second. Default 0: no
	// rotation.
	RotationInterval time.Duration
	// RotationDir is Log::default_rotation_dir, the folder of rotated logs. It is relative to the
	// logger's folder, may lie outside of it, and is made when it is first needed. Default: LogDir.
	RotationDir string
	// RotationBase is log_rotate_base_time. Rotations happen at this time after local midnight, and
	// whole intervals before and after it. A negative value stands for an empty
	// log_rotate_base_time: rotations happen at whole intervals since 1970 UTC. Default 0.
	RotationBase time.Duration
	// LeftoverRotation is LogAscii::enable_leftover_log_rotation. With a rotation interval, shadow
	// files tell which logs are open, and the next start rotates the logs of a logger that crashed.
	// Default false.
	LeftoverRotation bool
	// RotationFormat is Log::rotation_format_func, the form of the names of rotated logs. Default
	// RotationFormatDefault.
	RotationFormat RotationFormat
	// PostprocessorCmd is Log::default_rotation_postprocessor_cmd, a command that sh runs for each
	// rotated log in the logger's folder. It gets six arguments: file, log path, times of opening
	// and closing, 1 if the logger is ending, and "ascii". Default: none.
	PostprocessorCmd string
	// PostprocessorEnv is Log::default_rotation_postprocessor_cmd_env. The command gets each value
	// in its environment, with ZEEK_ARG_ before the key. Default: none.
	PostprocessorEnv map[string]string
	// GzipLevel is LogAscii::gzip_level. Logs are compressed while they are written, at a level
	// from 1 to 9. Default 0: no compression.
	GzipLevel int
	// GzipExtension is LogAscii::gzip_file_extension, the second extension of compressed logs,
	// without dot. Default "gz".
	GzipExtension string
	// Stdout is LogAscii::output_to_stdout. All logs go to the standard output, without rotation,
	// with the path /dev/stdout. Default false.
	Stdout bool

	// pinned has bit i set if the $config of a filter has set settings[i]. It has precedence over
	// the LogAscii:: constant, whichever comes first.
	pinned uint64
}

// DefaultOptions returns Zeek's defaults.
func DefaultOptions() *Options {
	return &Options{Format: zeek.DefaultOptions(), GzipExtension: "gz"}
}

// RotationFormat is a form of the names of rotated logs.
type RotationFormat uint8

const (
	// RotationFormatDefault is conn.2006-01-02-15-04-05.log, with the time of opening.
	RotationFormatDefault RotationFormat = iota
	// RotationFormatArchiver is conn__2006-01-02-15-04-05__2006-01-02-16-04-05__.log, with the
	// times of opening and closing: the form of Zeek's archiver_rotation_format_func for
	// zeek-archiver.
	RotationFormatArchiver
)

// Validate returns an error for values that make no sense, alone or together.
func (o *Options) Validate() error {
	if err := checkInterval(o.RotationInterval); err != nil {
		return err
	}
	if o.RotationBase >= 24*time.Hour {
		return fmt.Errorf("rotation base time %v is not a time of day", o.RotationBase)
	}
	for _, dir := range []string{o.LogDir, o.RotationDir} {
		if strings.ContainsRune(dir, 0) {
			return fmt.Errorf("folder %q contains a NUL byte", dir)
		}
	}
	switch {
	case o.RotationFormat > RotationFormatArchiver:
		return fmt.Errorf("unknown rotation format %d", o.RotationFormat)
	case strings.ContainsRune(o.PostprocessorCmd, 0):
		return fmt.Errorf("post-processor %q contains a NUL byte", o.PostprocessorCmd)
	}
	for key, v := range o.PostprocessorEnv {
		if err := checkEnv(key, v); err != nil {
			return err
		}
	}
	if err := checkGzipLevel(o.GzipLevel); err != nil {
		return err
	}
	if o.GzipLevel > 0 {
		if err := CheckExtension("LogAscii::gzip_file_extension", o.GzipExtension); err != nil {
			return err
		}
	}
	return o.Format.Validate()
}

func checkEnv(key, v string) error {
	if key == "" || strings.ContainsAny(key, "=\x00") || strings.ContainsRune(v, 0) {
		return fmt.Errorf("%q with the value %q cannot be in an environment", key, v)
	}
	return nil
}

func checkGzipLevel(level int) error {
	if level < gzip.NoCompression || level > gzip.BestCompression {
		return fmt.Errorf("gzip level %d: use 1 to 9, or 0 for no compression", level)
	}
	return nil
}

// CheckExtension returns an error if ext cannot be the extension of a file. what names the setting.
func CheckExtension(what, ext string) error {
	if ext == "" || strings.ContainsAny(ext, "/\\\x00") {
		return fmt.Errorf("%s: %q cannot be the extension of a file, "+
			"use something like \"log\" or \"gz\"", what, ext)
	}
	return nil
}

func checkInterval(d time.Duration) error {
	if d < 0 || d > 0 && d < time.Second {
		return fmt.Errorf("rotation interval %v: use 0 sec for no rotation, "+
			"or at least 1 sec, the resolution of rotated file names", d)
	}
	return nil
}

// setting is an option that Zeek scripts may redef.
type setting struct {
	name string // "LogAscii::use_json"
	// filter: the part of name after :: is also a key of a filter's $config.
	// filterOnly: name is such a key and nothing else.
	filter, filterOnly bool
	// kind is the kind of its values.
	kind valueKind
	// set stores a value of that kind. It is nil for an option without effect.
	set func(o *Options, v value) error
	// addable allows +=.
	addable bool
	// inert tells why a valid value has no effect. It is empty for an option with effect.
	inert string
}

const inertSender = "has no effect at a logger: the nodes that send the logs decide it"

// settings are all options that are known.
var settings = [...]setting{
	{name: "LogAscii::separator", filter: true, kind: kindString,
		set: setString(func(o *Options) *string { return &o.Format.Separator })},
	{name: "LogAscii::set_separator", filter: true, kind: kindString,
		set: setString(func(o *Options) *string { return &o.Format.SetSeparator })},
	{name: "LogAscii::empty_field", filter: true, kind: kindString,
		set: setString(func(o *Options) *string { return &o.Format.EmptyField })},
	{name: "LogAscii::unset_field", filter: true, kind: kindString,
		set: setString(func(o *Options) *string { return &o.Format.UnsetField })},
	{name: "LogAscii::meta_prefix", filter: true, kind: kindString,
		set: setString(func(o *Options) *string { return &o.Format.MetaPrefix })},
	{name: "LogAscii::include_meta", kind: kindBool,
		set: setBool(func(o *Options) *bool { return &o.Format.IncludeMeta })},
	{name: "LogAscii::enable_utf_8", filter: true, kind: kindBool,
		set: setBool(func(o *Options) *bool { return &o.Format.EnableUTF8 })},
	{name: "LogAscii::use_json", filter: true, kind: kindBool,
		set: setBool(func(o *Options) *bool { return &o.Format.UseJSON })},
	{name: "LogAscii::json_include_unset_fields", filter: true, kind: kindBool,
		set: setBool(func(o *Options) *bool { return &o.Format.JSONIncludeUnsetFields })},
	{name: "LogAscii::json_timestamps", filter: true, kind: kindName,
		set: setEnum(func(o *Options) *zeek.JSONTimestamps { return &o.Format.JSONTimestamps },
			"JSON::TS_EPOCH", "JSON::TS_MILLIS", "JSON::TS_MILLIS_UNSIGNED", "JSON::TS_ISO8601")},
	{name: "LogAscii::json_string_escape_policy", filter: true, kind: kindName,
		set: setEnum(
			func(o *Options) *zeek.StringEscapePolicy { return &o.Format.JSONStringEscapePolicy },
			"JSON::STRING_ESCAPE_POLICY_HEX", "JSON::STRING_ESCAPE_POLICY_PUA",
			"JSON::STRING_ESCAPE_POLICY_TSV")},
	{name: "LogAscii::output_to_stdout", filter: true, kind: kindBool,
		set: setBool(func(o *Options) *bool { return &o.Stdout })},
	{name: "LogAscii::gzip_level", filter: true, kind: kindNumber, set: setGzipLevel},
	{name: "LogAscii::gzip_file_extension", filter: true, kind: kindString,
		set: setString(func(o *Options) *string { return &o.GzipExtension })},
	{name: "LogAscii::enable_leftover_log_rotation", kind: kindBool,
		set: setBool(func(o *Options) *bool { return &o.LeftoverRotation })},
	{name: "tsv", filter: true, filterOnly: true, kind: kindBool,
		set: setBool(func(o *Options) *bool { return &o.Format.TSV })},

	{name: "Log::default_logdir", kind: kindString,
		set: setString(func(o *Options) *string { return &o.LogDir })},
	{name: "Log::default_rotation_interval", kind: kindInterval, set: setRotationInterval},
	{name: "Log::default_rotation_dir", kind: kindString,
		set: setString(func(o *Options) *string { return &o.RotationDir })},
	{name: "Log::default_rotation_postprocessor_cmd", kind: kindString,
		set: setString(func(o *Options) *string { return &o.PostprocessorCmd })},
	{name: "Log::default_rotation_postprocessor_cmd_env", kind: kindTable,
		set: setPostprocessorEnv, addable: true},
	{name: "Log::default_rotation_postprocessors", kind: kindAny,
		set:     refuse("the logger runs no scripts, use Log::default_rotation_postprocessor_cmd"),
		addable: true},
	{name: "Log::rotation_format_func", kind: kindAny, set: setRotationFormat},
	{name: "log_rotate_base_time", kind: kindString, set: setRotationBase},

	{name: "Log::default_ext_func", inert: inertSender},
	{name: "Log::default_ext_prefix", inert: inertSender},
	{name: "Log::default_field_name_map", addable: true, inert: inertSender},
	{name: "Log::default_max_field_container_elements", inert: inertSender},
	{name: "Log::default_max_field_string_bytes", inert: inertSender},
	{name: "Log::default_max_total_container_elements", inert: inertSender},
	{name: "Log::default_max_total_string_bytes", inert: inertSender},
	{name: "Log::default_scope_sep", inert: inertSender},
	{name: "Log::default_writer", inert: inertSender},
	{name: "Log::enable_local_logging", inert: inertSender},
	{name: "Log::enable_remote_logging", inert: inertSender},
	{name: "Log::flush_interval", inert: inertSender},
	{name: "Log::max_log_record_size", inert: inertSender},
	{name: "Log::print_log_path", inert: inertSender},
	{name: "Log::print_to_log", inert: inertSender},
	{name: "Log::write_buffer_size", inert: inertSender},
}

const _ = uint(64 - len(settings)) // Options.pinned has a bit for each

// filterKey returns the setting's key in a filter's $config.
func (s *setting) filterKey() string {
	return s.name[strings.LastIndexByte(s.name, ':')+1:]
}

// findSetting returns the index of the setting that a redef of name changes, -1 for none.
func findSetting(name string) int {
	return slices.IndexFunc(settings[:],
		func(s setting) bool { return s.name == name && !s.filterOnly })
}

// findFilterKey returns the index of the setting that a key of a filter's $config changes, -1 for
// none.
func findFilterKey(key string) int {
	return slices.IndexFunc(settings[:],
		func(s setting) bool { return s.filter && s.filterKey() == key })
}

// errUnknownName returns an error for an unknown name, with the known ones.
func errUnknownName(name string) error {
	var known []string
	for _, s := range settings {
		if !s.filterOnly {
			known = append(known, s.name)
		}
	}
	slices.Sort(known)
	return fmt.Errorf("%s is not an option of the logger; use one of %s", name,
		strings.Join(known, ", "))
}

// errUnknownFilterKey returns an error for an unknown key of a filter's $config, with the known
// ones.
func errUnknownFilterKey(key string) error {
	var known []string
	for _, s := range settings {
		if s.filter {
			known = append(known, s.filterKey())
		}
	}
	slices.Sort(known)
	return fmt.Errorf("%q is not a key of a filter's $config that the logger knows; use one of %s",
		key, strings.Join(known, ", "))
}

// apply assigns v to the setting at index i, or adds it; op is = or +=. On error o is unchanged.
func (o *Options) apply(i int, op string, v value) error {
	s := &settings[i]
	if op != "=" && !(op == "+=" && s.addable) {
		return fmt.Errorf("%s is not possible here, use =", op)
	}
	zero := s.kind == kindInterval && v.kind == kindNumber && v.number == 0
	if s.kind != kindAny && s.kind != v.kind && !zero {
		return errWant(s.kind.example(), v)
	}
	v.op = op
	switch {
	case s.set == nil:
		return nil
	case o.pinned&(1<<i) != 0:
		checked := *o
		return s.set(&checked, v)
	}
	return s.set(o, v)
}

func errWant(want string, v value) error {
	return fmt.Errorf("want %s, got %s", want, v.text)
}

func setString(field func(*Options) *string) func(*Options, value) error {
	return func(o *Options, v value) error {
		*field(o) = v.text
		return nil
	}
}

func setBool(field func(*Options) *bool) func(*Options, value) error {
	return func(o *Options, v value) error {
		*field(o) = v.text == "T"
		return nil
	}
}

// setEnum stores the index of a value in names, which have the order of T's constants.
func setEnum[T ~uint8](field func(*Options) *T, names ...string) func(*Options, value) error {
	return func(o *Options, v value) error {
		i := slices.Index(names, v.text)
		if i < 0 {
			return errWant("one of "+strings.Join(names, ", "), v)
		}
		*field(o) = T(i)
		return nil
	}
}

func setRotationInterval(o *Options, v value) error {
	if err := checkInterval(v.interval); err != nil {
		return err
	}
	o.RotationInterval = v.interval
	return nil
}

func setRotationBase(o *Options, v value) error {
	if v.text == "" {
		o.RotationBase = -1
		return nil
	}
	t, err := time.Parse("15:4", v.text)
	if err != nil {
		return errWant(`a time of day such as "12:34", or ""`, v)
	}
	o.RotationBase = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	return nil
}

func setRotationFormat(o *Options, v value) error {
	if v.kind != kindName || v.text != "archiver_rotation_format_func" {
		return errWant("archiver_rotation_format_func: the logger runs no scripts "+
			"and knows only this function", v)
	}
	o.RotationFormat = RotationFormatArchiver
	return nil
}

func setGzipLevel(o *Options, v value) error {
	level := int(v.number)
	if float64(level) != v.number {
		return errWant("a whole number", v)
	}
	if err := checkGzipLevel(level); err != nil {
		return err
	}
	o.GzipLevel = level
	return nil
}

// setPostprocessorEnv assigns or adds to the environment of the post-processor. It clones the map,
// which copies of the options share.
func setPostprocessorEnv(o *Options, v value) error {
	env := maps.Clone(o.PostprocessorEnv)
	if env == nil || v.op == "=" {
		env = map[string]string{}
	}
	for _, e := range v.table {
		if err := checkEnv(e.key, e.value); err != nil {
			return err
		}
		env[e.key] = e.value
	}
	if len(env) == 0 {
		env = nil
	}
	o.PostprocessorEnv = env
	return nil
}

// refuse returns an error for every value of an option that the logger cannot carry out.
func refuse(why string) func(*Options, value) error {
	return func(_ *Options, v value) error {
		return fmt.Errorf("%s is not possible here: %s", v.source(), why)
	}
}
