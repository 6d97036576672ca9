package kafka

import (
	"fmt"
	"hash/fnv"
	"strings"
	"sync"

	"zmtpd/pipeline"
)

const (
	placeholder = "{path}"
	// maxTopicName is the largest size of a topic's name in Kafka.
	maxTopicName = 249
	// maxTopics bounds the number of topics, so that a node that invents log paths cannot make the
	// brokers create a topic for each. The file logger has the same limit.
	maxTopics = 1000
)

// topics finds the topics of log paths. It is safe for concurrent use.
type topics struct {
	before, after string
	perPath       bool

	mu    sync.RWMutex
	names map[string]string // guarded by mu; the key is the log path
}

func newTopics(template string) (*topics, error) {
	t := &topics{names: make(map[string]string)}
	t.before, t.after, t.perPath = strings.Cut(template, placeholder)
	for _, part := range []string{t.before, t.after} {
		if i := strings.IndexFunc(part, func(c rune) bool { return !legal(c) }); i >= 0 {
			return nil,
				fmt.Errorf("topic %q: Kafka allows only letters, digits, '.', '_' and '-', and "+
					"%s may stand in it once", template, placeholder)
		}
	}
	room := maxTopicName
	if t.perPath {
		room -= 50
	}
	if n := len(t.before) + len(t.after); n > room || !t.perPath &&
		(t.before == "." || t.before == "..") {
		return nil, fmt.Errorf("topic %q: a name has at most %d characters, and is not %q or %q",
			template, room, ".", "..")
	}
	return t, nil
}

func legal(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' ||
		c == '_' || c == '-'
}

// of returns the topic of a log path.
func (t *topics) of(path []byte) (string, *pipeline.DropError) {
	if !t.perPath {
		return t.before, nil
	}
	t.mu.RLock()
	name, ok := t.names[string(path)]
	t.mu.RUnlock()
	if ok {
		return name, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.names) >= maxTopics {
		return "", &pipeline.DropError{Reason: pipeline.ReasonManyFiles,
			Err: fmt.Errorf("%d log paths have topics already, so none is created for %.60q",
				maxTopics, path)}
	}
	name = t.name(string(path))
	t.names[string(path)] = name
	return name, nil
}

// name replaces characters that Kafka does not allow. It cuts a name that is too long, and puts a
// checksum at its end.
func (t *topics) name(path string) string {
	name := t.before + strings.Map(func(c rune) rune {
		if legal(c) {
			return c
		}
		return '_'
	}, path) + t.after
	if len(name) > maxTopicName {
		h := fnv.New32a()
		h.Write([]byte(path))
		sum := fmt.Sprintf("-%08x", h.Sum32())
		name = name[:maxTopicName-len(sum)] + sum
	}
	switch name {
	case "", ".", "..":
		return "_"
	}
	return name
}
