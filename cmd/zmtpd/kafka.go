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

// kafkaFlags are the flags of --sink kafka.
type kafkaFlags struct {
	KafkaBroker        []string          `group:"kafka" placeholder:"HOST:PORT" help:"Broker of the Kafka cluster (repeatable). One is enough: it tells the others."`
	KafkaTopic         string            `group:"kafka" default:"zeek" help:"Topic of the records. With {path} in it, as in zeek-{path}, each log has a topic of its own; without it, records begin with the field _path."`
	KafkaKey           kafka.Key         `group:"kafka" default:"none" help:"Key of the records: none, node, path, or a field as in field:uid. With none, the records of one node and log are in one partition."`
	KafkaAcks          kafka.Acks        `group:"kafka" default:"all" help:"Acknowledgement after which a record counts as written: all, leader or none. With all, brokers store a record once even if they get it twice."`
	KafkaNoIdempotence bool              `group:"kafka" help:"Produce without idempotence, for brokers before 3.0 that do not grant IdempotentWrite."`
	KafkaCompression   kafka.Compression `group:"kafka" default:"snappy" help:"Compression of record batches: snappy, gzip, lz4, zstd or none."`
	KafkaLinger        time.Duration     `group:"kafka" default:"5ms" help:"Time that a record waits for others of its batch, 1ms to 1s."`
	KafkaBatchBytes    daemon.ByteSize   `group:"kafka" default:"1000012" help:"Size of the largest record batch: max.message.bytes of the topics."`
	KafkaTLS           bool              `name:"kafka-tls" group:"kafka" help:"Encrypt the connections to the brokers."`
	KafkaTLSCA         string            `name:"kafka-tls-ca" group:"kafka" placeholder:"FILE" help:"PEM file with the certificate authorities to trust. Default: those of the system."`
	KafkaTLSCert       string            `name:"kafka-tls-cert" group:"kafka" placeholder:"FILE" help:"PEM file with the client's certificate, if the brokers ask for one."`
	KafkaTLSKey        string            `name:"kafka-tls-key" group:"kafka" placeholder:"FILE" help:"PEM file with the key of --kafka-tls-cert."`
	KafkaTLSName       string            `name:"kafka-tls-name" group:"kafka" placeholder:"HOST" help:"Name in the certificates of the brokers. Default: the host to which zmtpd connects."`
	KafkaSASL          kafka.Mechanism   `name:"kafka-sasl" group:"kafka" default:"scram-sha-512" help:"SASL mechanism for --kafka-user: scram-sha-512, scram-sha-256 or plain."`
	KafkaUser          string            `group:"kafka" placeholder:"NAME" help:"User that authenticates with SASL. Default: no authentication."`
	KafkaPasswordFile  string            `group:"kafka" placeholder:"FILE" help:"File with the password of --kafka-user."`
}

// openKafka returns the sink of the flags. It does not wait for a broker.
func (f *kafkaFlags) openKafka(options *redef.Options, env *daemon.Env) (*kafka.Sink, error) {
	if len(f.KafkaBroker) == 0 {
		return nil, daemon.Usagef("--sink kafka: no broker; name at least one with --kafka-broker")
	}
	if !f.KafkaTLS && f.KafkaTLSCA+f.KafkaTLSCert+f.KafkaTLSKey+f.KafkaTLSName != "" {
		return nil, daemon.Usagef("--kafka-tls-... without --kafka-tls: connections would not be " +
			"encrypted; give --kafka-tls too")
	}
	switch {
	case f.KafkaTopic == "":
		return nil, daemon.Usagef("--kafka-topic: no topic; give a name, as in zeek-{path}")
	case f.KafkaBatchBytes == 0:
		return nil, daemon.Usagef("--kafka-batch-bytes 0: records need room; give 1KiB or more")
	case f.KafkaLinger == 0:
		return nil, daemon.Usagef("--kafka-linger 0s: give 1ms or more")
	case (f.KafkaUser == "") != (f.KafkaPasswordFile == ""):
		return nil, daemon.Usagef("--kafka-user and --kafka-password-file: give both or none")
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
	if f.KafkaUser != "" {
		password, err := os.ReadFile(f.KafkaPasswordFile)
		if err != nil {
			return nil, fmt.Errorf("--kafka-password-file: %w", err)
		}
		c.SASL = &kafka.SASL{Mechanism: f.KafkaSASL, User: f.KafkaUser,
			Password: strings.TrimRight(string(password), "\r\n")}
	}
	s, err := kafka.New(c)
	if err != nil {
		return nil, nameFlag(sinkKafka, err, map[string]string{
			"Brokers": "--kafka-broker", "Topic": "--kafka-topic", "Linger": "--kafka-linger",
			"MaxBatchBytes": "--kafka-batch-bytes", "TLS.CAFile": "--kafka-tls-ca",
			"TLS.CertFile": "--kafka-tls-cert and --kafka-tls-key",
			"SASL":         "--kafka-user and --kafka-password-file",
		})
	}
	return s, nil
}
