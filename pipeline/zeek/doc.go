// Package zeek reads and writes the log batches that the nodes of a Zeek cluster send to their
// loggers. It renders them in both formats of Zeek's ASCII log writer, TSV and JSON, byte for byte.
//
// How a batch is read and rendered:
//
//  1. [ParseBatch] splits the bytes into header and values. It allocates nothing. The raw bytes of
//     the header are the key for a cache of what is derived from it.
//  2. [ParseSchema] turns a header into a [Schema]. A logger calls it once for each distinct
//     header.
//  3. A [Renderer], one for each log path, appends the text of the records to a buffer, straight
//     from the raw values: [Renderer.AppendRecords].
//
// [AppendBatch] makes a batch. [DecodeRecords] gives the values of a batch one by one; it is slow.
//
// # Wire layout
//
// A log message has four parts: "log-write", the node id of the sender, the name of the serializer
// ([SerializerName]), and the batch. Integers are big-endian. Nothing is aligned or padded. There
// is no version field and no checksum.
//
//	bool      1 byte; only 01 is true
//	i32 u32   4 bytes
//	i64 u64   8 bytes
//	f64       8 bytes, IEEE 754 binary64
//	string    i32 length, not negative, then that many bytes
//
//	batch
//	  string  stream         "Conn::LOG"
//	  string  writer         "Log::WRITER_ASCII"
//	  string  filter         "default"
//	  string  path           "conn"
//	  u32     number of fields
//	  field   for each column
//	  u32     number of records
//	  value   for each column of each record, record by record
//
//	field
//	  bool    has a secondary name
//	  string  secondary name, only if it has one
//	  string  name           "id.orig_h"
//	  i32     type
//	  i32     subtype        type of the elements of a set or vector, else 0
//	  bool    optional
//
//	value
//	  i32     type           type of the field, also for an unset value
//	  i32     subtype        0, not interpreted
//	  bool    present        00 is an unset value, which ends here
//	  payload by type:
//	    bool int             i64, a bool is 0 or 1
//	    count                u64
//	    double time interval f64; seconds, times since 1970-01-01 UTC
//	    string enum          string
//	    file func            string
//	    port                 u64 number, i32 protocol (0 unknown, 1 tcp, 2 udp, 3 icmp)
//	    addr                 byte 04 or 06, then 4 or 16 bytes
//	    subnet               byte prefix length (for IPv4 plus 96), then as addr
//	    set vector           i64 number of elements, then a value for each;
//	                         elements are never containers
//
// Everything in a batch comes from a peer. The package compares counts with what the remaining
// bytes can hold before it uses them: a field has at least 14 bytes, a value 9. A batch that does
// not have this layout is refused with an [*Error] that has a [Reason]. As in Zeek, bytes after the
// last value are ignored.
package zeek

// SerializerName is the name of the batch encoding in the third part of a log message.
const SerializerName = "zeek-bin-serializer"
