//go:build !unix

package curve

import "io/fs"

// OpenToOthers reports whether others may read or change a file with secrets. It is false on systems
// without file modes.
func OpenToOthers(fs.FileInfo) bool { return false }
