package gateway

import (
	"encoding/json"
	"sync/atomic"
	"unicode/utf8"

	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
	"zmtpd/zmtp/memory"
)

// frame is the text of one message to clients. All clients that get it share it.
type frame struct {
	text   []byte
	class  *class // of its topic, nil for errors and acknowledgements
	holder *memory.Holder
	refs   atomic.Int32
}

// newFrame returns a frame with one reference, nil if there is no memory for it.
func newFrame(text []byte, class *class, holder *memory.Holder) *frame {
	if !holder.TryReserve(int64(cap(text))) {
		return nil
	}
	f := &frame{text: text, class: class, holder: holder}
	f.refs.Store(1)
	return f
}

func (f *frame) release() {
	if f.refs.Add(-1) == 0 {
		f.holder.Release(int64(cap(f.text)))
	}
}

// The parts of a Zeek event (cluster/backend/zeromq/ZeroMQ.cc).
const (
	partTopic = iota
	partNode
	partFormat
	partBody
	numParts
)

// parseEvent returns the value of a message from the bus, or false if it is no event. scratch is
// memory for it.
func parseEvent(m zmtp.Message, scratch []byte) (r event.Raw, memory []byte, ok bool) {
	if m.NumParts() != numParts {
		return nil, scratch, false
	}
	body := m.Part(partBody)
	switch string(m.Part(partFormat)) {
	case event.BinaryName:
	case event.JSONName:
		var err error
		if scratch, err = event.ParseJSON(scratch[:0], body); err != nil {
			return nil, scratch, false
		}
		body = scratch
	default:
		return nil, scratch, false
	}
	if _, err := event.ParseEvent(body); err != nil {
		return nil, scratch, false
	}
	return event.Raw(body), scratch, true
}

// appendText appends the message for clients, which is always JSON in UTF-8: browsers close the
// connection otherwise. What Zeek would send is not, if a string of the event has control
// characters or other bytes than UTF-8, or a double is infinite or no number. Control characters
// are escaped. Other bytes become \xHH, as in Zeek's logs (threading/formatters/JSON.cc). Infinite
// doubles become numbers beyond the range of a double, and NaN becomes null.
func appendText(dst, topic []byte, r event.Raw) []byte {
	from := len(dst)
	dst = event.AppendMessage(dst, topic, r)
	if isJSON(dst[from:]) {
		return dst
	}
	text := append([]byte{}, dst[from:]...)
	return appendSane(dst[:from], text)
}

// isJSON reports whether text, from event.AppendMessage, is JSON in UTF-8. It may say no for text
// that is.
func isJSON(text []byte) bool {
	for i, c := range text {
		switch {
		case c < ' ', c == 'v' && text[i-1] == '\\', // i > 0: the text begins with a brace
			(c == 'n' || c == 'i') && (text[i-1] == ':' || text[i-1] == '-'): // nan, inf
			return false
		}
	}
	return utf8.Valid(text)
}

func appendSane(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	inString := false
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, '\\', '\\', 'x', hex[c>>4], hex[c&15])
			} else {
				dst = append(dst, text[i:i+size]...)
			}
			i += size
		case c == '\\':
			if text[i+1] == 'v' {
				dst = append(dst, `\u000b`...)
			} else {
				dst = append(dst, text[i:i+2]...)
			}
			i += 2
		case !inString && c == 'n': // nan
			dst = append(dst, "null"...)
			i += len("nan")
		case !inString && c == 'i': // inf, behind a minus sign if it is negative
			dst = append(dst, "1e999"...)
			i += len("inf")
		default:
			if c == '"' {
				inString = !inString
			}
			if !inString && (c == 't' || c == 'f') { // true, false
				end := i
				for text[end] >= 'a' {
					end++
				}
				dst = append(dst, text[i:end]...)
				i = end
				continue
			}
			dst = append(dst, c)
			i++
		}
	}
	return dst
}

// errorText is an error message as Zeek sends it.
func errorText(code, context string) []byte {
	return []byte(`{"type":"error","code":` + quoted(code) + `,"context":` + quoted(context) + `}`)
}

// ackText is an acknowledgement as Zeek sends it.
func ackText(endpoint, version string) []byte {
	return []byte(`{"type":"ack","endpoint":` + quoted(endpoint) + `,"version":` + quoted(version) +
		`}`)
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string can always be marshalled
	return string(b)
}
