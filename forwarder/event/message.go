package event

// AppendMessage appends a message of Zeek's WebSocket API that has the value r, byte for byte as
// Zeek writes it (cluster/websocket/WebSocket.cc). See [AppendJSON] for when that is not JSON.
func AppendMessage(dst, topic []byte, r Raw) []byte {
	dst = append(dst, `{"type":"data-message","topic":`...)
	dst = append(appendQuoted(dst, topic), ',')
	return appendMembers(dst, r)
}

// ParseMessage reads a message of Zeek's WebSocket API. It returns its topic, and dst with the
// value of the message appended in broker-bin-v1, as [ParseJSON] does. Like Zeek, it does not look
// at the type of the message. The topic is nil if the message has none, or one that is no string.
func ParseMessage(dst, text []byte) (topic, out []byte, err error) {
	r := jsonReader{text: text, out: dst, message: true}
	if err := r.whole(); err != nil {
		return nil, dst, err
	}
	return r.topic, r.out, nil
}

// readTopic reads the topic of a message. Of several topics the first counts.
func (r *jsonReader) readTopic() *Error {
	if r.topic != nil || r.peek() != '"' {
		return r.skip()
	}
	text, err := r.string()
	if err == nil {
		r.topic = append([]byte{}, text...) // not nil
	}
	return err
}
