package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
)

// Key says what the key of a record is. The zero Key is KeyNone. UnmarshalText makes others from
// text.
type Key struct {
	of    keyOf
	field string // for keyField
}

type keyOf uint8

const (
	keyNone keyOf = iota
	keyNode
	keyPath
	keyField
)

// Keys that all records of a batch share.
var (
	// "none": no key; the records of one node and log path still share a partition
	KeyNone = Key{}
	KeyNode = Key{of: keyNode} // "node": the id of the node from which the record came
	KeyPath = Key{of: keyPath} // "path": the log path
)

// KeyField returns the Key that is the value of a field, as in the JSON object but without quotes.
// Records without the field have no key. With "uid" all records about a connection are in one
// partition, or, in several topics with equally many partitions, in partitions of the same number.
func KeyField(name string) Key { return Key{keyField, name} }

const fieldPrefix = "field:"

// String returns the text that UnmarshalText takes.
func (k Key) String() string {
	switch k.of {
	case keyNode:
		return "node"
	case keyPath:
		return "path"
	case keyField:
		return fieldPrefix + k.field
	}
	return "none"
}

// UnmarshalText sets k to "none", "node", "path", or "field:" with the name of a field.
func (k *Key) UnmarshalText(text []byte) error {
	s := string(text)
	for _, known := range []Key{KeyNone, KeyNode, KeyPath} {
		if s == known.String() {
			*k = known
			return nil
		}
	}
	if field, ok := strings.CutPrefix(s, fieldPrefix); ok {
		*k = KeyField(field)
		return k.validate()
	}
	return fmt.Errorf("there is no key %.40q: use none, node, path, or for example field:uid", s)
}

func (k Key) validate() error {
	if k.of == keyField && k.field == "" {
		return errors.New("the key is a field without a name: give one, such as field:uid")
	}
	return nil
}

// keys finds the keys of records.
type keys struct {
	key     Key
	pattern []byte // of a field, `,"name":`
}

func newKeys(k Key) keys {
	name := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(k.field)
	return keys{k, []byte(`,"` + name + `":`)}
}

// of returns the key of a record as a part of value or of f, or nil for no key.
func (k *keys) of(f *flow, value []byte) []byte {
	var key []byte
	switch k.key.of {
	case keyNode:
		key = f.node
	case keyPath:
		key = f.path
	case keyField:
		key = fieldValue(value, k.pattern)
	}
	if len(key) == 0 {
		return nil
	}
	return key
}

// fieldValue returns the value of a field of a flat JSON object, as in the object but without
// quotes, or nil if there is none. The pattern is the field's name between a comma and a colon. It
// can occur only in front of the value, since quotes in strings are escaped.
func fieldValue(object, pattern []byte) []byte {
	var v []byte
	if first := pattern[1:]; bytes.HasPrefix(object[1:], first) {
		v = object[1+len(first):]
	} else if i := bytes.Index(object, pattern); i >= 0 {
		v = object[i+len(pattern):]
	} else {
		return nil
	}
	switch v[0] {
	case '"':
		v = v[1:]
		for end := 0; end < len(v); end++ {
			switch v[end] {
			case '\\':
				end++
			case '"':
				return v[:end]
			}
		}
	case '[':
		return nil // a container: no rule says which element is the key
	}
	if end := bytes.IndexAny(v, ",}"); end >= 0 && string(v[:end]) != "null" {
		return v[:end]
	}
	return nil
}

// place returns the number that determines the partition of a flow's records without key. It must
// never change: after a restart the flow must go on in the same partition.
func (k flowKey) place() uint32 {
	h := fnv.New32a()
	h.Write([]byte(k.node))
	h.Write([]byte{0})
	h.Write([]byte(k.path))
	return h.Sum32()
}
