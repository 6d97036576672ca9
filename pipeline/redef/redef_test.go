package redef

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// optionsWith returns the defaults with a change.
func optionsWith(change func(*Options)) Options {
	o := DefaultOptions()
	change(o)
	return *o
}

// values returns o without the fields about the order of redefs.
func values(o *Options) Options {
	v := *o
	v.pinned = 0
	return v
}

func TestRedef(t *testing.T) {
	for assignment, change := range map[string]func(*Options){
		`LogAscii::separator="\x09\"\\\101\q"`:                                      func(o *Options) { o.Format.Separator = "\t\"\\Aq" },
		`LogAscii::separator=|`:                                                     func(o *Options) { o.Format.Separator = "|" },
		`LogAscii::set_separator="\xc2\xae"`:                                        func(o *Options) { o.Format.SetSeparator = "\xc2\xae" },
		`LogAscii::set_separator = " ; "`:                                           func(o *Options) { o.Format.SetSeparator = " ; " },
		`LogAscii::empty_field="\"\""`:                                              func(o *Options) { o.Format.EmptyField = `""` },
		`LogAscii::unset_field=`:                                                    func(o *Options) { o.Format.UnsetField = "" },
		`LogAscii::unset_field=T`:                                                   func(o *Options) { o.Format.UnsetField = "T" },
		`LogAscii::meta_prefix=""`:                                                  func(o *Options) { o.Format.MetaPrefix = "" },
		`LogAscii::meta_prefix=#`:                                                   func(o *Options) { o.Format.MetaPrefix = "#" },
		`LogAscii::include_meta=F`:                                                  func(o *Options) { o.Format.IncludeMeta = false },
		`LogAscii::enable_utf_8=F`:                                                  func(o *Options) { o.Format.EnableUTF8 = false },
		`LogAscii::use_json=T`:                                                      func(o *Options) { o.Format.UseJSON = true },
		`LogAscii::json_include_unset_fields=T`:                                     func(o *Options) { o.Format.JSONIncludeUnsetFields = true },
		`LogAscii::json_timestamps=JSON::TS_MILLIS`:                                 func(o *Options) { o.Format.JSONTimestamps = zeek.JSONTimestampsMillis },
		`LogAscii::json_timestamps=JSON::TS_MILLIS_UNSIGNED`:                        func(o *Options) { o.Format.JSONTimestamps = zeek.JSONTimestampsMillisUnsigned },
		`LogAscii::json_timestamps=JSON::TS_ISO8601`:                                func(o *Options) { o.Format.JSONTimestamps = zeek.JSONTimestampsISO8601 },
		`LogAscii::json_timestamps=JSON::TS_EPOCH`:                                  func(*Options) {},
		`LogAscii::json_string_escape_policy=JSON::STRING_ESCAPE_POLICY_PUA`:        func(o *Options) { o.Format.JSONStringEscapePolicy = zeek.StringEscapePUA },
		`LogAscii::json_string_escape_policy=JSON::STRING_ESCAPE_POLICY_TSV`:        func(o *Options) { o.Format.JSONStringEscapePolicy = zeek.StringEscapeTSV },
		`LogAscii::enable_leftover_log_rotation=T`:                                  func(o *Options) { o.LeftoverRotation = true },
		`LogAscii::output_to_stdout=F`:                                              func(*Options) {},
		`LogAscii::gzip_level=0`:                                                    func(*Options) {},
		`LogAscii::output_to_stdout=T`:                                              func(o *Options) { o.Stdout = true },
		`LogAscii::gzip_level=9`:                                                    func(o *Options) { o.GzipLevel = 9 },
		`LogAscii::gzip_file_extension=zip`:                                         func(o *Options) { o.GzipExtension = "zip" },
		`Log::default_logdir=current`:                                               func(o *Options) { o.LogDir = "current" },
		`Log::default_rotation_dir="../log-queue"`:                                  func(o *Options) { o.RotationDir = "../log-queue" },
		`Log::default_rotation_postprocessor_cmd=""`:                                func(*Options) {},
		`Log::default_rotation_postprocessor_cmd=`:                                  func(*Options) {},
		`Log::default_rotation_postprocessor_cmd_env+={ ["A"] = "b", ["C"] = "}" }`: func(o *Options) { o.PostprocessorEnv = map[string]string{"A": "b", "C": "}"} },
		`Log::default_rotation_postprocessor_cmd_env=table()`:                       func(*Options) {},
		`Log::default_ext_func=add_ext`:                                             func(*Options) {},
		`log_rotate_base_time="12:34"`:                                              func(o *Options) { o.RotationBase = 12*time.Hour + 34*time.Minute },
		`log_rotate_base_time=0:00`:                                                 func(*Options) {},
		`log_rotate_base_time=""`:                                                   func(o *Options) { o.RotationBase = -1 },
		`Log::default_rotation_interval=5 sec`:                                      func(o *Options) { o.RotationInterval = 5 * time.Second },
		`Log::default_rotation_interval=1hr`:                                        func(o *Options) { o.RotationInterval = time.Hour },
		`Log::default_rotation_interval= 90 secs `:                                  func(o *Options) { o.RotationInterval = 90 * time.Second },
		`Log::default_rotation_interval=1.5min`:                                     func(o *Options) { o.RotationInterval = 90 * time.Second },
		`Log::default_rotation_interval=2days`:                                      func(o *Options) { o.RotationInterval = 48 * time.Hour },
		`Log::default_rotation_interval=2000 msecs`:                                 func(o *Options) { o.RotationInterval = 2 * time.Second },
		`Log::default_rotation_interval=3e6 usec`:                                   func(o *Options) { o.RotationInterval = 3 * time.Second },
		`Log::default_rotation_interval=0 sec`:                                      func(*Options) {},
		`Log::default_rotation_interval=0`:                                          func(*Options) {},
	} {
		o := DefaultOptions()
		if err := o.Redef(assignment); err != nil {
			t.Errorf("%s: %v", assignment, err)
		} else if want := optionsWith(change); !reflect.DeepEqual(*o, want) {
			t.Errorf("%s: got %+v, want %+v", assignment, *o, want)
		}
	}
}

func TestRedefRefused(t *testing.T) {
	for assignment, want := range map[string]string{
		`LogAscii::use_json`:                         "want NAME=VALUE",
		`LogAscii::use_xml=T`:                        "use one of Log::default_ext_func, ",
		`Site::local_nets=T`:                         "LogAscii::use_json",
		`tsv=T`:                                      "not an option",
		`use_json=T`:                                 "not an option",
		`LogAscii::use_json=true`:                    "want T or F, got true",
		`LogAscii::use_json="T"`:                     "want T or F",
		`LogAscii::use_json=`:                        "the value is missing",
		`LogAscii::use_json+=T`:                      "+= is not possible",
		`LogAscii::separator="x`:                     "not closed",
		`LogAscii::separator="\xzz"`:                 "hexadecimal",
		`LogAscii::separator="\777"`:                 "not a byte",
		`LogAscii::separator="a" "b"`:                "want a string",
		`LogAscii::json_timestamps=JSON::TS_DAYS`:    "one of JSON::TS_EPOCH",
		`LogAscii::json_timestamps="JSON::TS_EPOCH"`: "want a name",
		`LogAscii::gzip_level=10`:                    "use 1 to 9",
		`LogAscii::gzip_level=-1`:                    "use 1 to 9",
		`LogAscii::gzip_level=1.5`:                   "a whole number",
		`LogAscii::gzip_level=T`:                     "want a number",
		`Log::default_rotation_postprocessor_cmd_env={ ["A=B"] = "c" }`: "cannot be in an " +
			"environment",
		`Log::default_rotation_postprocessors+={ [Log::WRITER_ASCII] = f }`: "runs no scripts",
		`Log::rotation_format_func=my_func`: "want " +
			"archiver_rotation_format_func",
		`Log::default_rotation_interval=5`:          "want an interval",
		`Log::default_rotation_interval=5 parsec`:   `unknown unit "parsec"`,
		`Log::default_rotation_interval=-5 sec`:     "at least 1 sec",
		`Log::default_rotation_interval=10 msec`:    "at least 1 sec",
		`Log::default_rotation_interval=1e300 days`: "too long",
		`log_rotate_base_time=25:00`:                "a time of day",
		`log_rotate_base_time=1hr`:                  "a time of day",
	} {
		o := DefaultOptions()
		err := o.Redef(assignment)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", assignment, err, want)
		}
		if !reflect.DeepEqual(o, DefaultOptions()) {
			t.Errorf("%s: changed the options", assignment)
		}
	}
}

// localZeek is like an operator's script: most of it is for other parts of Zeek.
const localZeek = `##! Local site policy.
@load misc/loaded-scripts   # "not a string
@load-sigs ./sigs

redef digest_salt = "Please; change } this";
redef Site::local_nets += { 192.168.0.0/16, [2001:db8::]/32 };
redef Notice::emailed_types += { SSH::Password_Guessing, };
redef ignore_checksums_nets -= { 10.0.0.0/8 };
redef enum Notice::Type += { My_Notice };
redef record connection += { note: string &optional; };
module Mine;
export {
	## a type
	type Info: record { a: count &log; b: set[string] &default=set("}", ";"); };
	option watched = /evil";{\/|worse/i;
	redef LogAscii::json_timestamps = JSON::TS_ISO8601;
	global hook_me: hook(c: connection);
}
const table_of: table[count] of string = { [1] = "a", [2] = "b" } &default="?";
function f(x: count): set[string]
	{
	if ( x > 3 ) { return set(); } else return set("a");
	}
event connection_state_remove(c: connection) &priority=-5
	{
	local size = c$orig$size / 2; # }
	when ( local h = lookup_addr(c$id$orig_h) ) { print h; }
	}
hook Log::log_stream_policy(rec: any, id: Log::ID) { if ( id == HTTP::LOG ) break; }
@if ( Cluster::is_enabled() )
redef Weird::actions += { ["x"] = Weird::ACTION_IGNORE };
@else
@endif
if ( T ) { print "x"; } else { print "y"; }
Log::disable_stream(Syslog::LOG);
module GLOBAL;
redef LogAscii::use_json = T;
redef Log::default_rotation_interval: interval = 1 hr;
redef Log::default_ext_func = function(path: string): Ext { return Ext($stream=path); };
module LogAscii;
redef set_separator = ";";
`

func TestRedefsOfLocalZeek(t *testing.T) {
	o := DefaultOptions()
	skipped, err := o.Redefs([]byte(localZeek))
	if err != nil {
		t.Fatal(err)
	}
	want := optionsWith(func(o *Options) {
		o.Format.UseJSON = true
		o.Format.JSONTimestamps = zeek.JSONTimestampsISO8601
		o.Format.SetSeparator = ";"
		o.RotationInterval = time.Hour
	})
	if !reflect.DeepEqual(*o, want) {
		t.Errorf("got %+v, want %+v", *o, want)
	}
	var what []string
	for _, s := range skipped {
		what = append(what, s.What)
	}
	for _, w := range []string{"@load misc/loaded-scripts", "redef digest_salt",
		"redef Site::local_nets", "function f",
		"event connection_state_remove", "redef Weird::actions", "redef Log::default_ext_func"} {
		if !slices.ContainsFunc(what, func(s string) bool { return strings.HasPrefix(s, w) }) {
			t.Errorf("%q is not among what was skipped: %q", w, what)
		}
	}
	if i := slices.IndexFunc(skipped,
		func(s Skipped) bool { return s.What == "redef digest_salt" }); skipped[i].Line != 5 {
		t.Errorf("line of digest_salt is %d, want 5", skipped[i].Line)
	}
}

const filterLoop = `event zeek_init() &priority=-10
	{
	for ( id in Log::active_streams )
		{
		for ( name in Log::get_filter_names(id) )
			{
			local f: Log::Filter = Log::get_filter(id, name);
			f$config["tsv"] = "T";
			f$config["separator"] = "\x09";
			f$config["json_timestamps"] = "JSON::TS_MILLIS";
			f$config["use_json"] = "F";
			Log::add_filter(id, f);
			}
		}
	}
`

func TestFilterConfig(t *testing.T) {
	want := optionsWith(func(o *Options) {
		o.Format.TSV = true
		o.Format.JSONTimestamps = zeek.JSONTimestampsMillis
	})
	// A filter's $config wins over the constants, wherever they are.
	for _, script := range []string{
		filterLoop,
		"redef LogAscii::use_json = T;\n" + filterLoop,
		filterLoop + "redef LogAscii::use_json = T; redef LogAscii::separator = \"|\";",
		"event zeek_init() { Log::disable_stream(X::LOG); }" + filterLoop + "event zeek_init() {}",
	} {
		o := DefaultOptions()
		if _, err := o.Redefs([]byte(script)); err != nil {
			t.Errorf("%s\n%v", script, err)
		} else if !reflect.DeepEqual(values(o), want) {
			t.Errorf("%s\ngot %+v, want %+v", script, *o, want)
		}
		if err := o.Redef("LogAscii::use_json=T"); err != nil ||
			!reflect.DeepEqual(values(o), want) {
			t.Errorf("a constant won over $config: %+v, %v", *o, err)
		}
	}
}

func TestRedefsRefused(t *testing.T) {
	for script, want := range map[string]string{
		"\n\nredef LogAscii::use_xml = T;": "line 3: redef " +
			"LogAscii::use_xml is not an option of the logger; use one of Log::",
		"redef Log::nonsense = T;":            "use one of",
		"redef log_rotate_interval = 1 hr;":   "use one of",
		"redef LogAscii::use_json = 1;":       "line 1: redef LogAscii::use_json: want T or F, got 1",
		"redef LogAscii::use_json;":           "the value is missing",
		"redef LogAscii::use_json = ;":        "the value is missing",
		"redef LogAscii::use_json = T":        "has no end",
		"redef LogAscii::separator -= \"x\";": "-= is not possible",
		"redef LogAscii::gzip_level = 10;":    "use 1 to 9",
		"@if ( T )\nredef LogAscii::use_json = T;\n@endif": "line 2: redef " +
			"LogAscii::use_json: the logger cannot evaluate @if",
		"redef LogAscii::use_json = \n@ifdef ( X )\nT\n@endif\n;": "cannot evaluate @if",
		"@if ( T )\n" + filterLoop + "@endif":                     "cannot evaluate @if",
		"@if ( T )":                                               "no @endif",
		"event x() {":                                             "has no end",
		"}":                                                       "closes nothing",
		"print \"a\n\";":                                          "line 1: a string must end on its line",
		strings.ReplaceAll(filterLoop, `"tsv"`,
			`"tvs"`): `line 8: "tvs" is not a key of a filter's $config that the logger knows; use one of empty_field`,
		strings.ReplaceAll(filterLoop, `"tsv"`, `"include_meta"`): "not a key",
		strings.ReplaceAll(filterLoop, `"T"`, `"yes"`):            "want T or F",
		strings.ReplaceAll(filterLoop, `["tsv"] = "T"`,
			`["gzip_level"] = "x"`): "want a number",
		strings.ReplaceAll(filterLoop, "Log::active_streams",
			"some_streams"): "$config counts only",
		strings.ReplaceAll(filterLoop, "zeek_init",
			"zeek_done"): "$config counts only",
		strings.ReplaceAll(filterLoop, `"T"`,
			`value`): "$config counts only",
		`event zeek_init() { Log::add_filter(A::LOG, [$name="x", $config=table(["tsv"] = "T")]); }`: "$config counts only",
		`redef Mine::filters += { Log::Filter($config=table()) };`:                                  "$config counts only",
	} {
		o := DefaultOptions()
		_, err := o.Redefs([]byte(script))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot error %v, want one with %q", script, err, want)
		}
	}
}

// All errors are reported, not only the first.
func TestRedefsReportsAll(t *testing.T) {
	_, err := DefaultOptions().Redefs([]byte("redef LogAscii::a = T;\nredef LogAscii::use_json = " +
		"T;\nredef LogAscii::b = T;"))
	if err == nil || !strings.Contains(err.Error(), "LogAscii::a") ||
		!strings.Contains(err.Error(), "line 3: redef LogAscii::b") {
		t.Errorf("got %v", err)
	}
}

// Enum settings have their names in the order of the constants.
func TestEnumNames(t *testing.T) {
	for name, last := range map[string]string{
		"LogAscii::json_timestamps":           "JSON::TS_ISO8601",
		"LogAscii::json_string_escape_policy": "JSON::STRING_ESCAPE_POLICY_TSV",
	} {
		o := DefaultOptions()
		if err := o.Redef(name + "=" + last); err != nil {
			t.Error(err)
		}
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", last, err)
		}
	}
	o := DefaultOptions()
	o.Format.JSONTimestamps = zeek.JSONTimestampsISO8601
	p := DefaultOptions()
	if err := p.Redef("LogAscii::json_timestamps=JSON::TS_ISO8601"); err != nil ||
		!reflect.DeepEqual(o, p) {
		t.Errorf("JSON::TS_ISO8601 is %v", p.Format.JSONTimestamps)
	}
}

func TestOptionsValidate(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"interval":  func(o *Options) { o.RotationInterval = time.Millisecond },
		"negative":  func(o *Options) { o.RotationInterval = -time.Hour },
		"base":      func(o *Options) { o.RotationBase = 24 * time.Hour },
		"NUL":       func(o *Options) { o.LogDir = "a\x00b" },
		"separator": func(o *Options) { o.Format.Separator = "" },
		"gzip":      func(o *Options) { o.GzipLevel = 10 },
		"extension": func(o *Options) { o.GzipLevel, o.GzipExtension = 1, "a/b" },
		"format":    func(o *Options) { o.RotationFormat = 2 },
		"cmd":       func(o *Options) { o.PostprocessorCmd = "\x00" },
		"env":       func(o *Options) { o.PostprocessorEnv = map[string]string{"=": "x"} },
		"zero":      func(o *Options) { *o = Options{} },
	} {
		o := optionsWith(change)
		if o.Validate() == nil {
			t.Errorf("%s: %+v is valid", name, o)
		}
	}
}

// For any script, Redefs returns valid options or an error, and the same for the same script.
func FuzzRedefs(f *testing.F) {
	seeds := 0
	for _, name := range []string{"edge-logs", "edge-logs-ext", "rotation"} {
		for _, config := range testkit.Configs(f, name) {
			f.Add(testkit.Golden(f, name)[config+"/CONFIG"])
			seeds++
		}
	}
	if seeds < 20 {
		f.Fatalf("%d seeds", seeds)
	}
	f.Add([]byte(localZeek))
	f.Add([]byte(filterLoop))
	f.Fuzz(func(t *testing.T, script []byte) {
		o, p := DefaultOptions(), DefaultOptions()
		skipped, err := o.Redefs(script)
		for _, s := range skipped {
			if s.Line < 1 || s.What == "" || s.Why == "" {
				t.Errorf("skipped %+v", s)
			}
		}
		if _, err2 := p.Redefs(script); (err == nil) != (err2 == nil) || !reflect.DeepEqual(o, p) {
			t.Errorf("first %+v, %v; then %+v, %v", o, err, p, err2)
		}
		if err == nil && o.Format.Separator != "" && o.Format.SetSeparator != "" {
			if strings.ContainsRune(o.LogDir+o.RotationDir+o.PostprocessorCmd, 0) ||
				CheckExtension("", o.GzipExtension) != nil {
				return
			}
			if err := o.Validate(); err != nil {
				t.Errorf("options that no one can use: %v", err)
			}
		}
	})
}
