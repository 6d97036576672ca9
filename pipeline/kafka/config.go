package kafka

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/memory"
)

// Config configures a Sink. Only Brokers is required.
type Config struct {
	// Brokers are the addresses, host or host:port, of some brokers of the cluster. The client
	// learns the others from them. The default port is 9092.
	Brokers []string
	// Topic is the topic of the records. "{path}" is replaced by the log path, so that each log has
	// its own topic; in it, "_" replaces characters that Kafka does not allow. Default "zeek".
	Topic string
	// Key is the key of the records, which determines their partition. Default KeyNone.
	Key Key
	// Format is the format of the JSON objects. UseJSON is implied. Default: zeek.DefaultOptions.
	Format *zeek.Options

	// Acks is the acknowledgement that a broker must give. Default AcksAll.
	Acks Acks
	// NoIdempotence turns off idempotence, by which brokers recognize records that they get twice.
	// Idempotence needs AcksAll and, with brokers before 3.0, the permission IdempotentWrite.
	// Default: on with AcksAll.
	NoIdempotence bool
	// Compression is the codec of record batches. Default CompressionSnappy.
	Compression Compression
	// Linger is the time that a record waits for others of its record batch. A longer time allows
	// more records of one node and log path in flight. 1 ms to 1 s. Default 5 ms, as in Kafka.
	Linger time.Duration
	// MaxBatchBytes bounds a record batch before compression, in bytes, and so each record. Set it
	// to max.message.bytes of the topics if that is less than Kafka's default. Default 1000012, as
	// in Kafka.
	MaxBatchBytes int
	// MaxBuffered bounds the memory of records on their way, in bytes. Text counts twice, since the
	// client's request contains it again. A single batch of any size is always taken. Default 64
	// MiB.
	MaxBuffered int64

	// Memory is the budget for records on their way, and for the client. Default: none.
	Memory *memory.Budget

	// TLS encrypts the connections. Default: they are not encrypted.
	TLS *TLS
	// SASL authenticates the client. Default: it does not.
	SASL *SASL

	// Logger takes messages for the operator. Default: nothing is logged.
	Logger *slog.Logger

	// For tests.
	options                []kgo.Opt     // these override all others
	stallAfter, maxBackoff time.Duration // default: the constants
}

const (
	defaultTopic       = "zeek"
	defaultLinger      = 5 * time.Millisecond
	minLinger          = time.Millisecond
	maxLinger          = time.Second
	defaultBatchBytes  = 1000012
	minBatchBytes      = 1024
	maxBatchBytes      = 64 << 20 // Kafka's socket.request.max.bytes is 100 MiB
	defaultMaxBuffered = 64 << 20
)

// configErrorf makes an error about a field of Config.
func configErrorf(field, format string, args ...any) error {
	return &pipeline.ConfigError{Field: field, Err: fmt.Errorf(format, args...)}
}

// withDefaults returns the configuration with defaults in place of zero values, or its first error.
func (c Config) withDefaults() (Config, error) {
	if len(c.Brokers) == 0 {
		return c, configErrorf("Brokers", "give the address of at least one, such as kafka1:9092")
	}
	for _, b := range c.Brokers {
		if err := checkBroker(b); err != nil {
			return c, &pipeline.ConfigError{Field: "Brokers", Err: err}
		}
	}
	if c.Topic == "" {
		c.Topic = defaultTopic
	}
	if c.Format == nil {
		format := zeek.DefaultOptions()
		c.Format = &format
	}
	format := *c.Format
	format.UseJSON = true
	c.Format = &format
	if c.Linger == 0 {
		c.Linger = defaultLinger
	}
	if c.Linger < minLinger || c.Linger > maxLinger {
		return c, configErrorf("Linger", "%v is out of range; choose %v to %v", c.Linger, minLinger,
			maxLinger)
	}
	if c.MaxBatchBytes == 0 {
		c.MaxBatchBytes = defaultBatchBytes
	}
	if c.MaxBatchBytes < minBatchBytes || c.MaxBatchBytes > maxBatchBytes {
		return c,
			configErrorf("MaxBatchBytes", "%d is out of range; choose %d to %d, not more than "+
				"max.message.bytes of the topics", c.MaxBatchBytes, minBatchBytes, maxBatchBytes)
	}
	if c.MaxBuffered == 0 {
		c.MaxBuffered = defaultMaxBuffered
	}
	if c.MaxBuffered < 0 {
		return c,
			configErrorf("MaxBuffered", "%d is negative; give a multiple of the record batch",
				c.MaxBuffered)
	}
	if c.Acks > AcksNone {
		return c, configErrorf("Acks", "no such value; use one of the Acks constants")
	}
	if c.Compression > CompressionNone {
		return c, configErrorf("Compression", "no such codec; use one of the Compression constants")
	}
	if err := c.Key.validate(); err != nil {
		return c, &pipeline.ConfigError{Field: "Key", Err: err}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.stallAfter == 0 {
		c.stallAfter = stallAfter
	}
	if c.maxBackoff == 0 {
		c.maxBackoff = maxBackoff
	}
	return c, nil
}

func checkBroker(address string) error {
	host, port := address, "9092"
	if strings.Contains(address, ":") {
		var err error
		if host, port, err = net.SplitHostPort(address); err != nil {
			return fmt.Errorf("broker %q: %w: write host:port, and [host]:port for IPv6", address,
				err)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("broker %q: the port must be a number from 1 to 65535", address)
	}
	if host == "" || strings.ContainsAny(host, " /,") {
		return fmt.Errorf("broker %q: %q is not a host: write host:port, one broker each", address,
			host)
	}
	return nil
}

// clientBytes estimates the client's memory beside records, in bytes: buffers of connections and of
// compression. LZ4 works in blocks of 4 MiB.
func (c *Config) clientBytes() int64 {
	if c.Compression == CompressionLZ4 {
		return 20 << 20
	}
	return 4 << 20
}

// idempotent reports whether brokers recognize records that they get twice.
func (c *Config) idempotent() bool { return c.Acks == AcksAll && !c.NoIdempotence }

// clientOptions returns the options of the client, without hooks. The client repeats what the
// protocol calls retriable without limits of time and number, as long as that keeps order and
// idempotence. An unknown topic is an exception: its records come back, so that the sink can report
// the reason.
//
// The options are for one client only: it changes values in them.
func (c *Config) clientOptions(encryption *tls.Config, authentication sasl.Mechanism) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID("zmtpd"),
		kgo.DisableClientMetrics(),
		kgo.AllowAutoTopicCreation(), // if the brokers are configured to do it
		kgo.MetadataMinAge(time.Second),
		kgo.RequiredAcks(c.Acks.kgo()),
		kgo.ProducerBatchCompression(c.Compression.kgo(), kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(c.MaxBatchBytes)),
		kgo.ProducerLinger(c.Linger),
		kgo.MaxBufferedRecords(1<<31 - 1), // Config.MaxBuffered is the limit
		kgo.RecordPartitioner(partitioner{}),
	}
	if !c.idempotent() {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	if encryption != nil {
		opts = append(opts, kgo.DialTLSConfig(encryption))
	}
	if authentication != nil {
		opts = append(opts, kgo.SASL(authentication))
	}
	return append(opts, c.options...)
}
