// Package files is the sink that writes the logs of a Zeek cluster to files: a Logger makes the same bytes
// under the same names as Zeek's own logger with its ASCII writer, and takes the same options (package redef).
//
// Where it differs from Zeek's, it is so that nothing is lost:
//
//   - A log path stays within the log folder, or its batches are refused.
//   - Two streams with the same path do not share a file. The one that comes first
//     has the name, "conn.log", the other is marked, "conn.My_LOG.log".
//   - A file has one set of columns. Other columns begin a new file; see streamLog
//     for the names.
//   - A batch with a bad value is dropped, counted, and the log goes on.
//   - A file that is there already is moved to its rotated name, never
//     truncated; no move replaces a file: the second of a name gets "_1".
//   - While a file cannot be written its senders wait. What was written halfway is
//     taken back, so that there is no half line at any time but that of the write.
//   - What LogAscii::gzip_level compresses is in its file as soon as other logs are, and after a
//     crash it is repaired.
//   - A log folder has one logger: a second one is refused.
//
// A rotated log gets its final name when it is complete and on disk. Until then it is in ".rotating" of the
// log folder, from where the next start takes it after a crash. It goes to Options.RotationDir under one
// of Zeek's names, or to Config.Archive, a tree like that of zeekctl, compressed if wanted; what is
// compressed or copied is removed only after its copy is synced. Sync, compression and the
// post-processor run in the background.
package files
