// Package redef has the options of Zeek's log files and of log rotation under their names in Zeek, and reads the
// scripts in which an operator sets them: "redef LogAscii::use_json = T;".
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

// Options are the settings of Zeek's ASCII writer and of its log rotation, under
// their names in Zeek. Start from DefaultOptions; change fields, or apply what
// an operator wrote for Zeek with Redef and Redefs.
type Options struct {
	// Format is what a line looks like.
	Format zeek.Options

	// LogDir is Log::default_logdir: where open logs stand. Relative to the
	// logger's folder, made if it is missing. Default: the folder itself.
	LogDir string
	// RotationInterval is Log::default_rotation_interval: 0 never, else at least a
	// second. Default 0.
	RotationInterval time.Duration
	// RotationDir is Log::default_rotation_dir: where rotated logs go. Relative to the
	// logger's folder, may lie outside of it, made when it is first needed.
	// Default: LogDir.
	RotationDir string
	// RotationBase is log_rotate_base_time: rotations happen at this time after local
	// midnight and whole intervals before and after it. Negative stands for an empty
	// log_rotate_base_time: whole intervals since 1970 UTC. Default 0.
	RotationBase time.Duration
	// LeftoverRotation is LogAscii::enable_leftover_log_rotation: with a rotation
	// interval, shadow files say which logs are open, and logs that a crashed logger
	// left are rotated at start. Default false.
	LeftoverRotation bool
	// RotationFormat is Log::rotation_format_func: the names of rotated logs. Default
	// RotationFormatDefault.
	RotationFormat RotationFormat
	// PostprocessorCmd is Log::default_rotation_postprocessor_cmd: a command that sh runs
	// for each rotated log, in the logger's folder, with six arguments: file, log path, times
	// of opening and closing, 1 if the logger is ending, "ascii". Empty, the default: none.
	PostprocessorCmd string
	// PostprocessorEnv is Log::default_rotation_postprocessor_cmd_env: the command has
	// each value in its environment, with ZEEK_ARG_ before the key. Default: none.
	PostprocessorEnv map[string]string
	// GzipLevel is LogAscii::gzip_level: logs are compressed while they are written, at a
	// level from 1 to 9. Default 0: they are not.
	GzipLevel int
	// GzipExtension is LogAscii::gzip_file_extension: what compressed logs have after
	// their extension, without dot. Default "gz".
	GzipExtension string
	// Stdout is LogAscii::output_to_stdout: all logs go to the standard output, without
	// rotation, under the path /dev/stdout. Default false.
	Stdout bool

	// pinned has bit i set if a filter's $config has set settings[i]: that wins over
	// the LogAscii:: constant, whichever comes first.
	pinned uint64
}

// DefaultOptions returns Zeek's defaults.
func DefaultOptions() *Options {
	return &Options{Format: zeek.DefaultOptions(), GzipExtension: "gz"}
}

// RotationFormat says how rotated logs are named (spec 3.8).
type RotationFormat uint8

const (
	// RotationFormatDefault is conn.2006-01-02-15-04-05.log, with the time at which the log
	// was opened.
	RotationFormatDefault RotationFormat = iota
	// RotationFormatArchiver is what zeek-archiver understands,
	// conn__2006-01-02-15-04-05__2006-01-02-16-04-05__.log, with the times of opening
	// and closing: Zeek's archiver_rotation_format_func.
	RotationFormatArchiver
)

// Validate refuses what makes no sense, alone or together.
func (o *Options) Validate() error {
	if err := checkInterval(o.RotationInterval); err != nil {
		return err
	}
	if o.RotationBase >= 24*time.Hour {
		return fmt.Errorf("rotation base time %v is not a time of day", o.RotationBase)
	}
	for _, dir := range []string{o.LogDir, o.RotationDir} {
		if strings.ContainsRune(dir, 0) {
			return fmt.Errorf("directory %q has a NUL byte in it", dir)
		}
	}
	switch {
	case o.RotationFormat > RotationFormatArchiver:
		return fmt.Errorf("rotation format %d is not known", o.RotationFormat)
	case strings.ContainsRune(o.PostprocessorCmd, 0):
		return fmt.Errorf("post-processor %q has a NUL byte in it", o.PostprocessorCmd)
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

// CheckExtension refuses what cannot be the extension of a file; what is where
// it was given.
func CheckExtension(what, ext string) error {
	if ext == "" || strings.ContainsAny(ext, "/\\\x00") {
		return fmt.Errorf("%s: %q cannot be the extension of a file, use something like \"log\" or \"gz\"", what, ext)
	}
	return nil
}

func checkInterval(d time.Duration) error {
	if d < 0 || d > 0 && d < time.Second {
		return fmt.Errorf("rotation interval %v: use 0 sec for no rotation, or at least 1 sec, the resolution of rotated file names", d)
	}
	return nil
}

// setting is one name that Zeek scripts may redef.
type setting struct {
	name string // "LogAscii::use_json"
	// filter says that the part of name after :: is a key of a filter's $config, too;
	// filterOnly that name is such a key and nothing else.
	filter, filterOnly bool
	// kind is that of its values.
	kind valueKind
	// set stores a value of that kind; nil if there is nothing to store.
	set func(o *Options, v value) error
	// addable allows +=.
	addable bool
	// inert is why a valid value has no effect, empty if it has.
	inert string
}

const inertSender = "has no effect at a logger: the nodes that send the logs decide it"

// settings are all the names known.
var settings = [...]setting{
	{name: "LogAscii::separator", filter: true, kind: kindString, set: setString(func(o *Options) *string { return &o.Format.Separator })},
	{name: "LogAscii::set_separator", filter: true, kind: kindString, set: setString(func(o *Options) *string { return &o.Format.SetSeparator })},
	{name: "LogAscii::empty_field", filter: true, kind: kindString, set: setString(func(o *Options) *string { return &o.Format.EmptyField })},
	{name: "LogAscii::unset_field", filter: true, kind: kindString, set: setString(func(o *Options) *string { return &o.Format.UnsetField })},
	{name: "LogAscii::meta_prefix", filter: true, kind: kindString, set: setString(func(o *Options) *string { return &o.Format.MetaPrefix })},
	{name: "LogAscii::include_meta", kind: kindBool, set: setBool(func(o *Options) *bool { return &o.Format.IncludeMeta })},
	{name: "LogAscii::enable_utf_8", filter: true, kind: kindBool, set: setBool(func(o *Options) *bool { return &o.Format.EnableUTF8 })},
	{name: "LogAscii::use_json", filter: true, kind: kindBool, set: setBool(func(o *Options) *bool { return &o.Format.UseJSON })},
	{name: "LogAscii::json_include_unset_fields", filter: true, kind: kindBool, set: setBool(func(o *Options) *bool { return &o.Format.JSONIncludeUnsetFields })},
	{name: "LogAscii::json_timestamps", filter: true, kind: kindName, set: setEnum(func(o *Options) *zeek.JSONTimestamps { return &o.Format.JSONTimestamps },
		"JSON::TS_EPOCH", "JSON::TS_MILLIS", "JSON::TS_MILLIS_UNSIGNED", "JSON::TS_ISO8601")},
	{name: "LogAscii::json_string_escape_policy", filter: true, kind: kindName, set: setEnum(func(o *Options) *zeek.StringEscapePolicy { return &o.Format.JSONStringEscapePolicy },
		"JSON::STRING_ESCAPE_POLICY_HEX", "JSON::STRING_ESCAPE_POLICY_PUA", "JSON::STRING_ESCAPE_POLICY_TSV")},
	{name: "LogAscii::output_to_stdout", filter: true, kind: kindBool, set: setBool(func(o *Options) *bool { return &o.Stdout })},
	{name: "LogAscii::gzip_level", filter: true, kind: kindNumber, set: setGzipLevel},
	{name: "LogAscii::gzip_file_extension", filter: true, kind: kindString, set: setString(func(o *Options) *string { return &o.GzipExtension })},
	{name: "LogAscii::enable_leftover_log_rotation", kind: kindBool, set: setBool(func(o *Options) *bool { return &o.LeftoverRotation })},
	{name: "tsv", filter: true, filterOnly: true, kind: kindBool, set: setBool(func(o *Options) *bool { return &o.Format.TSV })},

	{name: "Log::default_logdir", kind: kindString, set: setString(func(o *Options) *string { return &o.LogDir })},
	{name: "Log::default_rotation_interval", kind: kindInterval, set: setRotationInterval},
	{name: "Log::default_rotation_dir", kind: kindString, set: setString(func(o *Options) *string { return &o.RotationDir })},
	{name: "Log::default_rotation_postprocessor_cmd", kind: kindString, set: setString(func(o *Options) *string { return &o.PostprocessorCmd })},
	{name: "Log::default_rotation_postprocessor_cmd_env", kind: kindTable, set: setPostprocessorEnv, addable: true},
	{name: "Log::default_rotation_postprocessors", kind: kindAny, set: refuse("the logger runs no scripts, use Log::default_rotation_postprocessor_cmd"), addable: true},
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

// findSetting returns the index of the setting that a redef of name is about, -1
// if there is none.
func findSetting(name string) int {
	return slices.IndexFunc(settings[:], func(s setting) bool { return s.name == name && !s.filterOnly })
}

// findFilterKey returns the index of the setting behind a key of a filter's
// $config, -1 if there is none.
func findFilterKey(key string) int {
	return slices.IndexFunc(settings[:], func(s setting) bool { return s.filter && s.filterKey() == key })
}

// errUnknownName lists the names that are known, because the one given is not.
func errUnknownName(name string) error {
	var known []string
	for _, s := range settings {
		if !s.filterOnly {
			known = append(known, s.name)
		}
	}
	slices.Sort(known)
	return fmt.Errorf("%s is not an option of the logger; known are %s", name, strings.Join(known, ", "))
}

// errUnknownFilterKey does the same for the keys of a filter's $config.
func errUnknownFilterKey(key string) error {
	var known []string
	for _, s := range settings {
		if s.filter {
			known = append(known, s.filterKey())
		}
	}
	slices.Sort(known)
	return fmt.Errorf("%q is not a key of a filter's $config that the logger knows; known are %s", key, strings.Join(known, ", "))
}

// apply stores v in the setting at index i; op is = or +=, and of an addition v
// is what is added. On error o is unchanged.
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

// setEnum stores the index of the value in names, which are in the order of T's
// constants.
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
		return errWant("archiver_rotation_format_func: the logger runs no scripts and knows only this function", v)
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

// setPostprocessorEnv adds to the environment of the post-processor. A copy of the
// options keeps what it had.
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

// refuse refuses all values: to go on without what Zeek would do would be a surprise.
func refuse(why string) func(*Options, value) error {
	return func(_ *Options, v value) error {
		return fmt.Errorf("%s is not possible here: %s", v.source(), why)
	}
}
