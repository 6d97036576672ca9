// Package spool is a queue of records on disk. A sink whose destination is down or slow appends the
// records that it cannot deliver. Later the sink, or another process after a crash, reads them in
// order and acknowledges those that were delivered. A record may have any content.
//
//	s, err := spool.Open(spool.Config{Dir: "spool"}, func(record []byte) { ... })
//	_, err = s.Append(record)
//	seq, record, err := s.Next(nil)
//	s.Ack(seq)
//	err = s.Close()
//
// # The life of a record
//
//  1. Append writes it to the end of the newest segment. When Append returns, the system has it,
//     and kill -9 does not lose it. Within Config.SyncInterval it is on the disk, and a power
//     failure does not lose it.
//  2. Next reads the records in order. Each process reads a record once.
//  3. Ack records that a record is done. A segment whose last record is done is deleted at once,
//     or, if it is being written, within Config.SyncInterval. Acknowledgements are written to disk
//     at the same interval and by Close. So the process after a killed one may deliver records
//     again that were acknowledged, but never loses one that was not.
//  4. DropOldest gives up the oldest segment, done or not.
//
// # Files
//
// All numbers are big-endian, all checksums CRC-32C (Castagnoli). A folder contains
//
//	00000000000000000001.segment   records from number 1 on; 20 digits, so the names sort as
//	                               the records do
//	acknowledged                   which records are done
//	acknowledged.tmp               the next version of it
//	delivering                     records being delivered, and those at which a process died
//	aside                          folder of records that were set aside, see SetAside
//	lock                           on Windows only
//
// Other files are left alone. Records are numbered from 1 on in the order of Append. A process
// never continues a segment of another one. It begins above all numbers in the files. So numbers
// may be missing between two segments, and the number of a record that no longer exists may be
// given again.
//
// A segment is a header and records:
//
//	 0  8  magic: 89 's' 'p' 'o' 'o' 'l' 0d 0a
//	 8  4  version: 1
//	12  8  number of the first record, as in the name
//	20  4  checksum of bytes 0 to 19
//	24     records
//
// The i-th record of a segment, from 0 on, has the number in the header plus i:
//
//	 0  4  length of the content
//	 4  4  checksum of the record's number (8 bytes) and the length (4 bytes)
//	 8  4  checksum of the content
//	12     content
//
// The length has its own checksum. So a damaged length never leads a reader into the content of a
// record, in which its sender may have put bytes that look like another record. Zeros are not a
// record.
//
// The file of acknowledgements is replaced as a whole:
//
//	 0   8  magic: 89 's' 'p' 'a' 'c' 'k' 0d 0a
//	 8   4  version: 1
//	12   8  next: all numbers in this file are less
//	20   8  floor: all records below are done
//	28   4  number of ranges n, at most 1048576
//	32 16n  ranges of records that are done: number of the first, number after the last;
//	        ascending, above floor, with at least one number between two ranges
//	     4  checksum of all before
//
// The file of records that are being delivered has a header and up to 1024 slots, which are changed
// in place:
//
//	 0  8  magic: 89 's' 'p' 'd' 'e' 'l' 0d 0a
//	 8  4  version: 1
//	12     slots, each of them empty (zeros) or
//
//	 0  8  number of the record
//	 8  4  number of processes that died at it; plus 2^31 while it is being delivered
//	12  4  checksum of bytes 0 to 11
//
// It is not synced, since it has to survive the death of a process only, not a power failure.
//
// A later version of a file has magic and version in the same places, so that a reader can tell it
// from damage.
//
// # Damage
//
// A process that is killed, or a power failure, leaves half a record at the end of the newest
// segment. Open cuts it off. Elsewhere, a record with damaged content is skipped. A record with a
// damaged length and all behind it in the segment are skipped. A damaged segment header costs no
// record. Skipped records are counted and logged, and deleted with their segment. If the file of
// acknowledgements is damaged, all records are delivered again.
package spool
