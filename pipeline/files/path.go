package files

import (
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strings"

	"zmtpd/pipeline/zeek"
)

const (
	maxElement = 255 // bytes of one element of a file name: NAME_MAX everywhere
	maxExt     = 16  // bytes of the extension, with its dot
	maxMark    = 32  // bytes that safeName returns
	// nameReserve is the space in an element of a file name for the mark of another stream or set
	// of columns, two numbers against collisions, and the prefix of a shadow file. The times in a
	// rotated name come in addition.
	nameReserve = 1 + maxMark + 9 + 2*5 + len(tmpShadowPrefix)
)

// checkPath refuses a log path that cannot name a file in the log folder, or that has a folder with
// the name of a log file. The rotated name is longer by reserve bytes. Zeek does not check paths,
// so any bytes that a file name can have are accepted.
func checkPath(path, suffix, ext string, reserve int) error {
	switch {
	case path == "":
		return errors.New("the log path is empty")
	case strings.ContainsRune(path, 0):
		return errors.New("the log path contains a NUL byte")
	case strings.HasPrefix(path, "/"):
		return errors.New("the log path is absolute, it must stay in the log folder")
	}
	longest := maxElement - nameReserve - reserve - len(ext)
	elements := strings.Split(path, "/")
	for _, e := range elements {
		switch {
		case e == "" || e == "." || e == "..":
			return fmt.Errorf("the log path has the element %q, it must stay in the log folder", e)
		case len(e) > longest:
			return fmt.Errorf("the log path has an element of %d bytes, at most %d are allowed",
				len(e), longest)
		}
	}
	for _, folder := range elements[:len(elements)-1] {
		// With or without an extension of compression; some file systems ignore case.
		if strings.Contains(strings.ToLower(folder)+".", "."+strings.ToLower(suffix)+".") {
			return fmt.Errorf("the log path has the folder %q, which is the name of a log file",
				folder)
		}
	}
	if elements[0] == workDir {
		return fmt.Errorf("the log path begins with %s, where rotated logs wait", workDir)
	}
	last := elements[len(elements)-1]
	if strings.HasPrefix(last, shadowPrefix) || strings.HasPrefix(last, tmpShadowPrefix) {
		return fmt.Errorf("the log path starts with %s like a shadow file", shadowPrefix)
	}
	// Names that the operating system takes for something else, such as C: and NUL.
	if !filepath.IsLocal(filepath.FromSlash(path + ext)) {
		return errors.New("the operating system does not take the log path for a local file name")
	}
	return nil
}

// safeName returns the name of a stream as a part of a file name.
func safeName(stream string) string {
	name := []byte(strings.ReplaceAll(stream, "::", "_"))
	for i, c := range name {
		if letter, digit := 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9'; !letter &&
			!digit && c != '-' {
			name[i] = '_'
		}
	}
	return string(name[:min(len(name), maxMark)])
}

// columnsMark returns a checksum of a set of columns as a part of a file name.
func columnsMark(s *zeek.Schema) string {
	sum := crc32.NewIEEE()
	for _, f := range s.Fields {
		fmt.Fprintf(sum, "%q %d %d\n", f.Name, f.Type, f.Subtype)
	}
	return fmt.Sprintf("%08x", sum.Sum32())
}
