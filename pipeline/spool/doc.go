// Package spool is a queue of records on disk. A sink whose destination is down or slow appends
// what it cannot deliver; later it, or another process after a crash, reads the records in order
// and acknowledges what was delivered. A record is any bytes.
//
// # The life of a record
//
//  1. Append writes it to the end of the newest segment. When Append returns the system has it:
//     kill -9 does not lose it. Within Config.SyncInterval it is on the disk, and a power failure
//     does not lose it either.
//  2. Next reads the records in order, once by each process.
//  3. Ack says that a record is done. The segment whose last record is done is deleted at once, the
//     one that is being written within Config.SyncInterval. What is done is noted on disk at the
//     same interval and by Close: a process that was killed may have acknowledged records that the
//     next one delivers again, never the other way around.
//  4. DropOldest gives up the oldest segment, done or not.
//
// # Files
//
// All numbers are big-endian, all checksums CRC-32C (Castagnoli). A folder holds
//
//	00000000000000000001.segment   records from number 1 on; 20 decimal digits, so the names sort as the records do
//	acknowledged                   which records are done
//	acknowledged.tmp               the next version of it
//	delivering                     records that are being delivered, and those at which a process died
//	aside                          folder of records that were set aside, see SetAside
//	lock                           on Windows only
//
// Other files are left alone. Records are numbered from 1 on, by one a record, in the order of
// Append. A process never goes on with a segment of another, and begins above all numbers that the
// files speak of: some may be missing between two segments, and the number of a record that is gone
// for good may come again.
//
// A segment is a header and records:
//
//	 0  8  magic: 89 's' 'p' 'o' 'o' 'l' 0d 0a
//	 8  4  version: 1
//	12  8  number of the first record, as in the name
//	20  4  checksum of bytes 0 to 19
//	24     records
//
// A record that is the i-th of its segment, from 0 on, has the header's number plus i:
//
//	 0  4  length of the content
//	 4  4  checksum of the record's number (8 bytes) and the length (4 bytes)
//	 8  4  checksum of the content
//	12     content
//
// The length has a checksum of its own so that one which is damaged never leads into the content of
// a record, where its sender may have put what looks like another. Zeros are no record.
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
// It is not synced: what it is for is a process that dies, not a power failure.
//
// A later version of a file keeps magic and version in the same places, so that it is told from
// damage.
//
// # Damage
//
// A process that is killed, or a power failure, leaves half a record at the end of the newest
// segment: Open cuts it off. Elsewhere a record with damaged content is skipped; after one whose
// length is damaged the rest of the segment is. A damaged segment header costs no record. What is
// skipped is counted and logged, and deleted with its segment. If the file of acknowledgements is
// damaged all records are delivered again.
package spool
