package files

import (
	"os"
	"path/filepath"
)

// renameReserving is renameNew for systems whose rename replaces files. It creates an empty file of
// the new name, which fails if there is one, and replaces that. A crash between the two leaves an
// empty file, but loses or doubles no log.
func renameReserving(src *os.Root, old string, dst *os.Root, new string) error {
	f, err := dst.OpenFile(new, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if src == dst {
		err = src.Rename(old, new)
	} else {
		err = os.Rename(filepath.Join(src.Name(), filepath.FromSlash(old)),
			filepath.Join(dst.Name(), filepath.FromSlash(new)))
	}
	if err != nil {
		_ = dst.Remove(new)
	}
	return err
}
