package kafka

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Acks says which acknowledgement a broker must give.
type Acks uint8

// The values of Kafka's producer option acks.
const (
	AcksAll Acks = iota // "all": all in-sync replicas have the records
	// "leader": the leader of the partition has the records; they are lost if it then dies
	AcksLeader
	AcksNone // "none": no acknowledgement
)

var acksNames = []string{AcksAll: "all", AcksLeader: "leader", AcksNone: "none"}

// String returns the name that UnmarshalText takes.
func (a Acks) String() string { return name(acksNames, a) }

// UnmarshalText sets a by its name.
func (a *Acks) UnmarshalText(text []byte) error { return setByName(a, acksNames, text) }

func (a Acks) kgo() kgo.Acks {
	switch a {
	case AcksLeader:
		return kgo.LeaderAck()
	case AcksNone:
		return kgo.NoAck()
	}
	return kgo.AllISRAcks()
}

// Compression is the codec of record batches.
type Compression uint8

// The values of Kafka's producer option compression.type.
const (
	CompressionSnappy Compression = iota // "snappy"
	CompressionGzip                      // "gzip"
	CompressionLZ4                       // "lz4"
	CompressionZstd                      // "zstd", since Kafka 2.1
	CompressionNone                      // "none"
)

var compressionNames = []string{CompressionSnappy: "snappy", CompressionGzip: "gzip",
	CompressionLZ4: "lz4", CompressionZstd: "zstd", CompressionNone: "none"}

// String returns the name that UnmarshalText takes.
func (c Compression) String() string { return name(compressionNames, c) }

// UnmarshalText sets c by its name.
func (c *Compression) UnmarshalText(text []byte) error {
	return setByName(c, compressionNames, text)
}

func (c Compression) kgo() kgo.CompressionCodec {
	switch c {
	case CompressionGzip:
		return kgo.GzipCompression()
	case CompressionLZ4:
		return kgo.Lz4Compression()
	case CompressionZstd:
		return kgo.ZstdCompression()
	case CompressionNone:
		return kgo.NoCompression()
	}
	return kgo.SnappyCompression()
}

// Mechanism is a SASL mechanism.
type Mechanism uint8

// SASL mechanisms.
const (
	ScramSHA512 Mechanism = iota // "SCRAM-SHA-512"
	ScramSHA256                  // "SCRAM-SHA-256"
	Plain                        // "PLAIN", which sends the password in clear text
)

var mechanismNames = []string{ScramSHA512: "SCRAM-SHA-512", ScramSHA256: "SCRAM-SHA-256",
	Plain: "PLAIN"}

// String returns the name that UnmarshalText takes.
func (m Mechanism) String() string { return name(mechanismNames, m) }

// UnmarshalText sets m by its name, in upper or lower case.
func (m *Mechanism) UnmarshalText(text []byte) error {
	return setByName(m, mechanismNames, []byte(strings.ToUpper(string(text))))
}

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%d", v)
}

func setByName[T ~uint8](v *T, names []string, text []byte) error {
	i := slices.Index(names, string(text))
	if i < 0 {
		return fmt.Errorf("there is no value %.40q: use one of %s", text, strings.Join(names, ", "))
	}
	*v = T(i)
	return nil
}
