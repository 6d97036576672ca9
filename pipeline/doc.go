// Package pipeline writes the logs of a Zeek cluster: its nodes push log batches
// over ZeroMQ, a Logger makes files of them, the same bytes under the same names as
// Zeek's own logger with its ASCII writer, and takes the same options.
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
//
// Numbers in comments such as "spec 3.8" are sections of the specification of Zeek's
// formats that the project is built from.
package pipeline
