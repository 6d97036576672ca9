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
	// Brokers are addresses, host or host:port, of some brokers of the cluster; the others are
	// learned from them. The port is 9092 unless given.
	Brokers []string
	// Topic of the records. "{path}" stands for the log path, which makes a topic for each; "_"
	// replaces characters that Kafka does not allow in topics. Default "zeek".
	Topic string
	// Key of the records, which determines their partition. Default KeyNone.
	Key Key
	// Format of the JSON objects; UseJSON is implied. Default: zeek.DefaultOptions.
	Format *zeek.Options

	// Acks is the acknowledgement that a broker must give. Default AcksAll.
	Acks Acks
	// NoIdempotence turns idempotence off, with which brokers recognize what they were sent twice.
	// Idempotence needs AcksAll, and brokers before 3.0 the right IdempotentWrite. Default: on with
	// AcksAll.
	NoIdempotence bool
	// Compression of record batches. Default CompressionSnappy.
	Compression Compression
	// Linger is how long a record waits for others in its record batch: the longer, the more
	// records of one node and log path can be in flight together. 1 ms to 1 s. Default 5 ms, as in
	// Kafka.
	Linger time.Duration
	// MaxBatchBytes bounds a record batch before compression, and so a record: set it to
	// max.message.bytes of the topics if that is less than Kafka's default. Default 1000012, as in
	// Kafka.
	MaxBatchBytes int
	// MaxBuffered bounds the memory of records that are on their way, in bytes. Text counts twice,
	// since it is in the client's request as well. One batch is taken whatever its size. Default
	// 64 MiB.
	MaxBuffered int64

	// Memory is the budget in which records on their way count, and the client. Default: none.
	Memory *memory.Budget

	// TLS encrypts the connections. Default: they are not encrypted.
	TLS *TLS
	// SASL authenticates the client. Default: it does not.
	SASL *SASL

	// Logger is for operators. Default: nothing is logged.
	Logger *slog.Logger

	// For tests.
	options                []kgo.Opt     // after all others
	stallAfter, maxBackoff time.Duration // default the constants
}

const (
	defaultTopic       = "zeek"
	defaultLinger      = 5 * time.Millisecond
	minLinger          = time.Millisecond
	maxLinger          = time.Second
	defaultBatchBytes  = 1000012
	minBatchBytes      = 1024
	maxBatchBytes      = 64 << 20 // a request is at most 100 MiB, Kafka's socket.request.max.bytes
	defaultMaxBuffered = 64 << 20
)

// configErrorf makes an error in a field of Config.
func configErrorf(field, format string, args ...any) error {
	return &pipeline.ConfigError{Field: field, Err: fmt.Errorf(format, args...)}
}

// withDefaults returns the configuration with its defaults, or the error in it.
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
		return c, configErrorf("Compression", "no such value; use one of the Compression constants")
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
		return fmt.Errorf("broker %q: %q is no host: write host:port, one broker each", address,
			host)
	}
	return nil
}

// clientBytes is about what the client takes beside records, in bytes: buffers of connections and
// of compression. That of LZ4 works in blocks of 4 MiB.
func (c *Config) clientBytes() int64 {
	if c.Compression == CompressionLZ4 {
		return 20 << 20
	}
	return 4 << 20
}

// idempotent says whether brokers recognize what they were sent twice.
func (c *Config) idempotent() bool { return c.Acks == AcksAll && !c.NoIdempotence }

// clientOptions returns the options of the client, but for hooks. They leave retries to franz-go as
// far as it can keep order and idempotence: without limits of time and number for what the protocol
// calls retriable. Topics that do not exist are an exception, their records come back, so that it
// can be said what is wrong.
//
// They are for one client only: it changes what is in them.
func (c *Config) clientOptions(encryption *tls.Config, authentication sasl.Mechanism) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID("zmtpd"),
		kgo.DisableClientMetrics(),
		kgo.AllowAutoTopicCreation(), // if the brokers do
		kgo.MetadataMinAge(time.Second),
		kgo.RequiredAcks(c.Acks.kgo()),
		kgo.ProducerBatchCompression(c.Compression.kgo(), kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(c.MaxBatchBytes)),
		kgo.ProducerLinger(c.Linger),
		kgo.MaxBufferedRecords(1<<31 - 1), // bounded by Config.MaxBuffered
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
