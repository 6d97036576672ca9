package zeek

import "errors"

// Options are the settings of Zeek's ASCII writer that decide how a line looks. The fields have the
// names of Zeek's LogAscii:: constants and of the keys of a filter's $config. The zero value is not
// useful; start from [DefaultOptions].
type Options struct {
	// TSV logs. These have no effect on JSON logs, in which every line is one object.

	Separator    string // LogAscii::separator, between columns; default tab
	SetSeparator string // LogAscii::set_separator, between elements; default ","
	// LogAscii::empty_field, for empty strings and containers; default "(empty)"
	EmptyField  string
	UnsetField  string // LogAscii::unset_field; default "-"
	MetaPrefix  string // LogAscii::meta_prefix, before header lines; default "#"
	IncludeMeta bool   // LogAscii::include_meta, header and #close; default true
	EnableUTF8  bool   // LogAscii::enable_utf_8, valid UTF-8 is not escaped; default true
	// $config["tsv"]: the header is only one line of field names; default false
	TSV bool

	// Both formats.

	// PathField is the name of an additional first column with the path of the log, for
	// destinations that several logs share. A log that has a column of this name gets no additional
	// one. Default: empty, no additional column, as in Zeek.
	PathField string

	// JSON logs.

	UseJSON bool // LogAscii::use_json; default false
	// LogAscii::json_timestamps; default JSONTimestampsEpoch
	JSONTimestamps JSONTimestamps
	// LogAscii::json_include_unset_fields, as null; default false
	JSONIncludeUnsetFields bool
	// LogAscii::json_string_escape_policy; default StringEscapeHex
	JSONStringEscapePolicy StringEscapePolicy
}

// JSONTimestamps says how JSON logs show values of type time.
type JSONTimestamps uint8

// The values of LogAscii::json_timestamps.
const (
	JSONTimestampsEpoch JSONTimestamps = iota // JSON::TS_EPOCH: seconds as a double
	// JSON::TS_MILLIS: milliseconds as a signed integer
	JSONTimestampsMillis
	// JSON::TS_MILLIS_UNSIGNED: milliseconds as an unsigned integer; negative ones wrap around
	JSONTimestampsMillisUnsigned
	// JSON::TS_ISO8601: a string in UTC with microseconds
	JSONTimestampsISO8601
)

// StringEscapePolicy says how JSON logs show bytes that are not printable text.
type StringEscapePolicy uint8

// The values of LogAscii::json_string_escape_policy.
const (
	// StringEscapeHex (JSON::STRING_ESCAPE_POLICY_HEX) writes \xHH. A reader cannot tell it from a
	// string that holds these four characters.
	StringEscapeHex StringEscapePolicy = iota
	// StringEscapePUA (JSON::STRING_ESCAPE_POLICY_PUA) writes a character of a private use area for
	// each byte. A reader can undo it.
	StringEscapePUA
	// StringEscapeTSV (JSON::STRING_ESCAPE_POLICY_TSV) writes strings as a TSV log does.
	StringEscapeTSV
)

// DefaultOptions returns Zeek's defaults.
func DefaultOptions() Options {
	return Options{
		Separator:    "\t",
		SetSeparator: ",",
		EmptyField:   "(empty)",
		UnsetField:   "-",
		MetaPrefix:   "#",
		IncludeMeta:  true,
		EnableUTF8:   true,
	}
}

// Validate refuses options that would leave the columns or elements of a line indistinguishable,
// and enum values that do not exist.
func (o *Options) Validate() error {
	switch {
	case o.JSONTimestamps > JSONTimestampsISO8601:
		return errors.New("zeek: json_timestamps has no such value: use one of the " +
			"JSONTimestamps constants")
	case o.JSONStringEscapePolicy > StringEscapeTSV:
		return errors.New("zeek: json_string_escape_policy has no such value: use one of the " +
			"StringEscape constants")
	case o.UseJSON:
		return nil
	case o.Separator == "":
		return errors.New("zeek: separator is empty and columns would run together: set it to one " +
			`or more bytes, Zeek's default is "\t"`)
	case o.SetSeparator == "":
		return errors.New("zeek: set_separator is empty and the elements of sets would run " +
			`together: set it to one or more bytes, Zeek's default is ","`)
	}
	return nil
}
