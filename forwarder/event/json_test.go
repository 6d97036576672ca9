package event

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func data(kind, data string) string { return `{"@data-type":"` + kind + `","data":` + data + `}` }

// TestParseJSON has what Zeek's reader takes and its writer does not write.
func TestParseJSON(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`{"@data-type":"none"}`, "00"},
		{data("none", `[{"x":"}"},1,"\u0041"]`), "00"},
		{` { "data" : 5 , "@data-type" : "count" } `, "02 0000000000000005"},
		{"{\"x\":{\"data\":[1,\"]\"]},\r\n\"data\":[],\t\"@data-type\":\"vector\"}", "0e00"},
		{data("integer", "-0"), "03 0000000000000000"},
		{data("real", "1e2"), "04 4059000000000000"},
		{data("real", ".5"), "04 3fe0000000000000"},
		{data("real", "nan"), "04 ffffffffffffffff"},
		{data("real", "-inf"), "04 7ff0000000000000"},
		{data("real", "1e999"), "04 fff0000000000000"},
		{data("string", `"\u00e9\ud83d\ude00\/\v\n"`), "05 09 c3a9f09f98802f0b0a"},
		{data("string", "\"\x00\xff\x1f\""), "05 03 00ff1f"},
		{data("port", `"80"`), "08 0050 01"},
		{data("port", `"80/sctp"`), "08 0050 00"},
		{data("timestamp", `"2023-11-14T22:13:20"`), "09 17979cfe362a0000"},
		{data("timestamp", `"2023-11-14T23:13:20.000000001+01:00"`), "09 17979cfe362a0001"},
		{data("timestamp", `"2023-11-14T22:13:20.5Z"`), "09 17979cfe53f76500"},
		{data("timespan", `"1.5s"`), "0a 0000000059682f00"},
		{data("timespan", `"-5ms"`), "0a ffffffffffb3b4c0"},
		{data("timespan", `"2h"`), "0a 0000068c61714000"},
		{data("timespan", `"1min"`), "0a 0000000df8475800"},
		{data("timespan", `"9223372036854775807ns"`), "0a 7fffffffffffffff"},
		{data("timespan", `"-9223372036854775808ns"`), "0a 8000000000000000"},
		{data("set", "["+data("count", "2")+","+data("count", "1")+"]"),
			"0c 02 020000000000000001 020000000000000002"},
		{data("table", `[{"value":`+data("none", "{}")+`,"x":1,"key":`+data("boolean",
			"true")+`}]`),
			"0d 01 0101 00"},
		{data("vector", "["+strings.Repeat(data("none", "{}")+",", 199)+data("none", "{}")+"]"),
			"0e c801" + strings.Repeat("00", 200)},
	} {
		got, err := ParseJSON(nil, []byte(c.json))
		if want := strings.ReplaceAll(c.want, " ", ""); err != nil ||
			hex.EncodeToString(got) != want {
			t.Errorf("%s: %v\n%x\n%s", c.json, err, got, want)
		}
	}
}

// TestRefusedJSON has texts that are no value, each with its reason.
func TestRefusedJSON(t *testing.T) {
	nested := func(n int) string {
		return strings.Repeat(`{"@data-type":"vector","data":[`, n) + strings.Repeat("]}", n)
	}
	if _, err := ParseJSON(nil, []byte(nested(MaxDepth))); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		json string
		want Reason
	}{
		{"", BadJSON},
		{"[]", BadJSON},
		{"{}", BadJSON},
		{`{"data":1}`, BadJSON},
		{`{"@data-type":"count"}`, BadJSON},
		{data("none", "{}") + "x", BadJSON},
		{data("none", "[}"), BadJSON},
		{data("none", ""), BadJSON},
		{`{"@data-type":"none","x":` + strings.Repeat("[", 200), TooDeep},
		{`{"@data-type":"none","x":` + strings.Repeat("[", 100), BadJSON},
		{data("nothing", "1"), UnknownTag},
		{data("boolean", "1"), BadValue},
		{data("count", "-1"), BadValue},
		{data("count", "+1"), BadValue},
		{data("count", "1.0"), BadValue},
		{data("count", "18446744073709551616"), BadValue},
		{data("integer", "9223372036854775808"), BadValue},
		{data("real", "1"), BadValue},
		{data("real", "0x1p4"), BadValue},
		{data("real", "1_0.0"), BadValue},
		{data("string", "1"), BadJSON},
		{data("string", `"\x"`), BadJSON},
		{data("string", `"\u12"`), BadJSON},
		{data("string", `"\ud800"`), BadJSON},
		{data("string", `"\ud800\u0041"`), BadJSON},
		{data("string", `"\`), BadJSON},
		{data("address", `"1.2.3"`), BadValue},
		{data("address", `"fe80::1%eth0"`), BadValue},
		{data("address", `"`+strings.Repeat("1", 1000)+`"`), BadValue},
		{data("subnet", `"1.2.3.4/33"`), BadValue},
		{data("port", `"65536/tcp"`), BadValue},
		{data("port", `"/tcp"`), BadValue},
		{data("timestamp", `"2023-13-14T22:13:20"`), BadValue},
		{data("timestamp", `"0001-01-01T00:00:00"`), BadValue},
		{data("timespan", `"1d"`), BadValue},
		{data("timespan", `"s"`), BadValue},
		{data("timespan", `"9223372036854775808ns"`), BadValue},
		{data("timespan", `"99999999999999999999h"`), BadValue},
		{data("timespan", `"1.5.5s"`), BadValue},
		{data("vector", "{}"), BadJSON},
		{data("vector", "[1]"), BadJSON},
		{data("vector", "["+data("none", "{}")+",]"), BadJSON},
		{data("set", "["+data("none", "{}")+","+data("none", "{}")+"]"), Duplicate},
		{data("table", `[{"key":`+data("none", "{}")+`}]`), BadJSON},
		{nested(MaxDepth + 1), TooDeep},
	} {
		b, err := ParseJSON([]byte("before"), []byte(c.json))
		got, ok := errors.AsType[*Error](err)
		if !ok || got.Reason != c.want || string(b) != "before" {
			t.Errorf("%.100s: %v, want %v", c.json, err, c.want)
		}
	}
}
