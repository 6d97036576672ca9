package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/pipeline/kafka"
	"zmtpd/pipeline/redef"
)

// kafkaFlags are those of --sink kafka.
type kafkaFlags struct {
	KafkaBroker        []string          `group:"kafka" placeholder:"HOST:PORT" help:"Some brokers of the Kafka cluster (repeatable); the others are learned from them."`
	KafkaTopic         string            `group:"kafka" default:"zeek" placeholder:"TOPIC" help:"Topic of the records. With {path} in it, as in zeek-{path}, each log has its own; else records begin with the field _path."`
	KafkaKey           kafka.Key         `group:"kafka" default:"none" placeholder:"none|node|path|field:NAME" help:"Key of the records, as in field:uid. With none the records of one node and log are in one partition."`
	KafkaAcks          kafka.Acks        `group:"kafka" default:"all" placeholder:"all|leader|none" help:"Which acknowledgement counts as delivered. With all, brokers recognize what they are sent twice."`
	KafkaNoIdempotence bool              `group:"kafka" help:"Send without what lets brokers recognize what they are sent twice: for brokers before 3.0 that do not grant the right IdempotentWrite."`
	KafkaCompression   kafka.Compression `group:"kafka" default:"snappy" placeholder:"snappy|gzip|lz4|zstd|none" help:"Compression of record batches."`
	KafkaLinger        time.Duration     `group:"kafka" default:"5ms" help:"How long a record waits for others to be sent with, 1ms to 1s."`
	KafkaBatchBytes    daemon.ByteSize   `group:"kafka" default:"1000012" help:"Largest record batch, and so record: max.message.bytes of the topics."`
	KafkaTLS           bool              `name:"kafka-tls" group:"kafka" help:"Encrypt the connections to the brokers."`
	KafkaTLSCA         string            `name:"kafka-tls-ca" group:"kafka" placeholder:"FILE" help:"Certificate authorities to trust, PEM. Default: the system's."`
	KafkaTLSCert       string            `name:"kafka-tls-cert" group:"kafka" placeholder:"FILE" help:"Our certificate, if the brokers want one, PEM."`
	KafkaTLSKey        string            `name:"kafka-tls-key" group:"kafka" placeholder:"FILE" help:"Its key, PEM."`
	KafkaTLSName       string            `name:"kafka-tls-name" group:"kafka" placeholder:"HOST" help:"Name in the brokers' certificates. Default: the host that is connected to."`
	KafkaSASL          kafka.Mechanism   `name:"kafka-sasl" group:"kafka" default:"scram-sha-512" placeholder:"scram-sha-512|scram-sha-256|plain" help:"How to authenticate --kafka-user."`
	KafkaUser          string            `group:"kafka" placeholder:"NAME" help:"User to authenticate as. Default: nobody."`
	KafkaPasswordFile  string            `group:"kafka" placeholder:"FILE" help:"File with the password of --kafka-user."`
}

// openKafka returns the sink that the flags describe. It need not reach a broker yet.
func (f *kafkaFlags) openKafka(options *redef.Options, env *daemon.Env) (*kafka.Sink, error) {
	if len(f.KafkaBroker) == 0 {
		return nil, daemon.Usagef("--sink kafka: name at least one broker with --kafka-broker")
	}
	if !f.KafkaTLS && f.KafkaTLSCA+f.KafkaTLSCert+f.KafkaTLSKey+f.KafkaTLSName != "" {
		return nil, daemon.Usagef("the flags --kafka-tls-... need --kafka-tls")
	}
	c := kafka.Config{
		Brokers: f.KafkaBroker, Topic: f.KafkaTopic, Key: f.KafkaKey, Format: &options.Format,
		Acks: f.KafkaAcks, NoIdempotence: f.KafkaNoIdempotence, Compression: f.KafkaCompression,
		Linger: f.KafkaLinger, MaxBatchBytes: int(f.KafkaBatchBytes),
		Memory: env.Memory, Logger: env.Log,
	}
	if f.KafkaTLS {
		c.TLS = &kafka.TLS{CAFile: f.KafkaTLSCA, CertFile: f.KafkaTLSCert, KeyFile: f.KafkaTLSKey,
			ServerName: f.KafkaTLSName}
	}
	if f.KafkaUser != "" || f.KafkaPasswordFile != "" {
		password, err := os.ReadFile(f.KafkaPasswordFile)
		if err != nil {
			return nil, fmt.Errorf("--kafka-password-file: %w", err)
		}
		c.SASL = &kafka.SASL{Mechanism: f.KafkaSASL, User: f.KafkaUser,
			Password: strings.TrimRight(string(password), "\r\n")}
	}
	s, err := kafka.New(c)
	if err != nil {
		return nil, &daemon.UsageError{Err: fmt.Errorf("--sink kafka: %w", err)}
	}
	return s, nil
}
