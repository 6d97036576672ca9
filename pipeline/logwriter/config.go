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

// Config says where records come from and go to, and when a batch is sent. Node, Stream and Path
// must be set.
type Config struct {
	// Node is the id of the sender, any bytes. Loggers account for messages by it; zmtpd's takes at
	// most 256 bytes. Zeek's nodes have "zeromq_worker-1_" and host name, process id and a random
	// part.
	Node string
	// Stream is the full name of the log stream's enum value, "Conn::LOG". A logger of Zeek must
	// know it, with the same columns; zmtpd's takes any.
	Stream string
	// Path is the log's name, "conn", which becomes that of a file.
	Path string
	// Filter is the name of the stream's filter. A logger of Zeek must know it. Default "default".
	Filter string
	// Writer is the full name of the enum value of the writer that the logger is to use. Default
	// "Log::WRITER_ASCII".
	Writer string

	// BatchSize is how many records a batch has at most. Default 1000, that of
	// Log::write_buffer_size.
	BatchSize int
	// BatchBytes is how many bytes a log message has at most, but a record that is larger goes
	// alone. Default 1 MiB; not more than 64 MiB.
	BatchBytes int
	// FlushInterval is how long a record waits at most before its batch is sent, unless the network
	// is the reason. Default 1 s, that of Log::flush_interval.
	FlushInterval time.Duration
}

// withDefaults returns a copy in which every field has its effective value.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Node == "":
		return c,
			errors.New("Config.Node is empty: name the sender, uniquely in the cluster, as in " +
				"\"probe-1\"")
	case c.Stream == "":
		return c, errors.New("Config.Stream is empty: name the log stream, as in \"Conn::LOG\"")
	case c.Path == "":
		return c, errors.New("Config.Path is empty: name the log, as in \"conn\"")
	case c.BatchSize < 0 || c.BatchBytes < 0 || c.FlushInterval < 0:
		return c,
			errors.New("Config.BatchSize, BatchBytes and FlushInterval cannot be negative, 0 is " +
				"for the default")
	case c.BatchBytes > maxMessage:
		return c, fmt.Errorf("Config.BatchBytes is %d, a log message may have at most %d",
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

// schema returns that of the records.
func (c *Config) schema(fields []zeek.Field) *zeek.Schema {
	return &zeek.Schema{Stream: c.Stream, Writer: c.Writer, Filter: c.Filter, Path: c.Path,
		Fields: fields}
}
