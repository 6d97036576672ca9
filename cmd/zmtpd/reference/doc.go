// Package reference writes what users look up, from the grammar of the command line and from the
// descriptions of the metrics: pages in Markdown, the manual page, and completions for shells.
//
// Its functions write to memory, do not block, and always write the same for the same input.
package reference
