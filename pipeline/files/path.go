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
	// nameReserve is what an element of a path must leave free beside the times of a rotated
	// name: for the mark of another stream or set of columns, two numbers against
	// collisions, the prefix of a shadow file.
	nameReserve = 1 + maxMark + 9 + 2*5 + len(tmpShadowPrefix)
)

// checkPath refuses a log path that cannot be the name of a file in the log
// folder, whose rotated name is longer by reserve bytes. Zeek does not look at it, so it may be whatever a node sends; any
// byte that a file name can have is fine.
func checkPath(path, ext string, reserve int) error {
	switch {
	case path == "":
		return errors.New("the log path is empty")
	case strings.ContainsRune(path, 0):
		return errors.New("the log path has a NUL byte in it")
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
			return fmt.Errorf("the log path has an element of %d bytes, at most %d are allowed", len(e), longest)
		}
	}
	if elements[0] == workDir {
		return fmt.Errorf("the log path begins with %s, where rotated logs wait", workDir)
	}
	last := elements[len(elements)-1]
	if strings.HasPrefix(last, shadowPrefix) || strings.HasPrefix(last, tmpShadowPrefix) {
		return fmt.Errorf("the log path is named like a shadow file, which start with %s", shadowPrefix)
	}
	// What else the operating system takes for a way out, such as C: and NUL.
	if !filepath.IsLocal(filepath.FromSlash(path + ext)) {
		return errors.New("the log path is no local file name, it must stay in the log folder")
	}
	return nil
}

// safeName makes the name of a stream a part of a file name.
func safeName(stream string) string {
	name := []byte(strings.ReplaceAll(stream, "::", "_"))
	for i, c := range name {
		if letter, digit := 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9'; !letter && !digit && c != '-' {
			name[i] = '_'
		}
	}
	return string(name[:min(len(name), maxMark)])
}

// columnsMark names a set of columns, the same each time.
func columnsMark(s *zeek.Schema) string {
	sum := crc32.NewIEEE()
	for _, f := range s.Fields {
		fmt.Fprintf(sum, "%q %d %d\n", f.Name, f.Type, f.Subtype)
	}
	return fmt.Sprintf("%08x", sum.Sum32())
}
