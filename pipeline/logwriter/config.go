package logwriter

import (
	"errors"
	"fmt"
	"time"

	"zmtpd/pipeline/zeek"
)

// Defaults of Config.
const (
	DefaultFilter        = "default"
	DefaultWriter        = "Log::WRITER_ASCII"
	DefaultBatchSize     = 1000
	DefaultBatchBytes    = 1 << 20
	DefaultFlushInterval = time.Second
)

// Config says where records come from, where they go, and when a batch is sent. Node, Stream and
// Path must be set.
type Config struct {
	// Node is the id of the sender, any bytes. Loggers keep accounts for each id; zmtpd's logger
	// takes at most 256 bytes. The ids of Zeek's nodes consist of "zeromq_worker-1_", host name,
	// process id and a random part.
	Node string
	// Stream is the full name of the log stream's enum value, "Conn::LOG". Zeek's logger must know
	// it, with the same columns. zmtpd's logger takes any.
	Stream string
	// Path is the name of the log, "conn". The logger makes a file name from it.
	Path string
	// Filter is the name of the stream's filter. Zeek's logger must know it. Default "default".
	Filter string
	// Writer is the full name of the enum value of the logger's writer. Default
	// "Log::WRITER_ASCII".
	Writer string

	// BatchSize is the largest number of records in a batch. Default 1000, as in
	// Log::write_buffer_size.
	BatchSize int
	// BatchBytes is the largest size of a log message in bytes. A larger record gets a message of
	// its own. Default 1 MiB, at most 64 MiB.
	BatchBytes int
	// FlushInterval is the longest time that a record waits before the Writer sends its batch. A
	// slow network may add to it. Default 1 s, as in Log::flush_interval.
	FlushInterval time.Duration
}

// withDefaults returns a copy with defaults in place of zero values.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Node == "":
		return c,
			errors.New("Config.Node is empty: give the sender a unique name, as in \"probe-1\"")
	case c.Stream == "":
		return c, errors.New("Config.Stream is empty: set it to the stream, as in \"Conn::LOG\"")
	case c.Path == "":
		return c, errors.New("Config.Path is empty: set it to the name of the log, as in \"conn\"")
	case c.BatchSize < 0 || c.BatchBytes < 0 || c.FlushInterval < 0:
		return c,
			errors.New("Config.BatchSize, BatchBytes or FlushInterval is negative: 0 means the " +
				"default")
	case c.BatchBytes > maxMessage:
		return c, fmt.Errorf("Config.BatchBytes is %d: a log message has at most %d",
			c.BatchBytes, maxMessage)
	}
	if c.Filter == "" {
		c.Filter = DefaultFilter
	}
	if c.Writer == "" {
		c.Writer = DefaultWriter
	}
	if c.BatchSize == 0 {
		c.BatchSize = DefaultBatchSize
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = DefaultBatchBytes
	}
	if c.FlushInterval == 0 {
		c.FlushInterval = DefaultFlushInterval
	}
	return c, nil
}

// schema returns the schema of the records.
func (c *Config) schema(fields []zeek.Field) *zeek.Schema {
	return &zeek.Schema{Stream: c.Stream, Writer: c.Writer, Filter: c.Filter, Path: c.Path,
		Fields: fields}
}
