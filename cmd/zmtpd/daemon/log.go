package daemon

import (
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"reflect"
)

// newLog returns a log in a format, text or json. Values that the text format writes as words are
// strings in JSON as well.
func newLog(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w,
			&slog.HandlerOptions{Level: level, ReplaceAttr: words}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// words replaces values that [slog.JSONHandler] writes in another form than [slog.TextHandler]:
// durations as nanoseconds, and named types as numbers, objects or arrays of bytes.
func words(groups []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindAny:
		if _, builtin := a.Value.Any().(slog.Level); builtin && len(groups) == 0 &&
			a.Key == slog.LevelKey {
			return a
		}
		a.Value = wordsOf(a.Value.Any())
	}
	return a
}

// wordsOf returns the text of a value; of a slice, the texts of its elements.
func wordsOf(v any) slog.Value {
	switch v := v.(type) {
	case nil:
		return slog.AnyValue(v)
	case error:
		return slog.StringValue(v.Error())
	case encoding.TextMarshaler:
		if text, err := v.MarshalText(); err == nil {
			return slog.StringValue(string(text))
		}
	case fmt.Stringer:
		return slog.StringValue(v.String())
	case []byte:
		return slog.StringValue(string(v))
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice {
		all := make([]string, r.Len())
		for i := range all {
			all[i] = fmt.Sprint(r.Index(i).Interface())
		}
		return slog.AnyValue(all)
	}
	return slog.StringValue(fmt.Sprintf("%+v", v))
}
