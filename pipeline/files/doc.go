// Package files is the sink that writes log files. A [Logger] makes the same bytes under the same
// names as Zeek's own logger with its ASCII writer, and takes the same options (package redef).
//
// It differs from Zeek's logger where that would lose records:
//
//   - A log path stays within the log folder, and none of its folders is named like a log file.
//     Batches for any other path are refused.
//   - Two streams with the same path do not share a file. The stream that most nodes send gets
//     "conn.log"; the other one gets "conn.My_LOG.log".
//   - A file has one set of columns. The columns that most nodes send get the log's name; see
//     streamLog.
//   - A node may begin a limited number of logs, and of sets of columns for one log.
//   - A log file or folder that somebody moves, removes, replaces or truncates is noticed at the
//     next flush. The records that follow go to a new file.
//   - A batch with a bad value is dropped and counted; its log goes on.
//   - A file that already exists is moved to its rotated name and never truncated. No move replaces
//     a file: the second file of a name gets "_1".
//   - While a file cannot be written, its senders wait. A write that fails halfway is undone, so
//     that no reader finds half a line.
//   - A log that LogAscii::gzip_level compresses is flushed as often as any other log. After a
//     crash it is repaired.
//   - A log folder has one logger; a second one is refused.
//
// A rotated log gets its final name when it is complete and on disk. Until then it is in the folder
// ".rotating" of the log folder, where the next start finds it after a crash. Its final place is
// either [redef.Options].RotationDir with one of Zeek's names, or [Config].Archive, a tree like
// that of zeekctl. The original of a log that is copied or compressed is removed after the copy is
// synced. Sync, compression and the post-processor run in the background.
package files
