// Command freebsdpkg writes a package for FreeBSD's pkg(8): a tar archive, compressed with zstd,
// that begins with +COMPACT_MANIFEST and +MANIFEST (pkg, libpkg/pkg_create.c). The same files give
// the same bytes on every host.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// group is the group of the configuration, which may name files with keys. All else belongs to
// wheel.
const group = "zmtpd"

// architectures are Go's names, and those of pkg: in an ABI, and in the older form of it.
var architectures = map[string][2]string{
	"amd64": {"amd64", "x86:64"}, "arm64": {"aarch64", "aarch64:64"}}

func main() {
	root := flag.String("root", "", "folder with the files, as they are below /")
	scripts := flag.String("scripts", "", "folder with manifest.json and pre-install")
	version := flag.String("version", "", "version of the package")
	arch := flag.String("arch", "", "architecture, amd64 or arm64")
	seconds := flag.Int64("time", 0, "time of all files, in seconds since 1970")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	content, err := build(*root, *scripts, *version, *arch, time.Unix(*seconds, 0))
	if err == nil {
		err = os.WriteFile(*out, content, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "freebsdpkg:", err)
		os.Exit(1)
	}
}

// entry is a file of the package.
type entry struct {
	header  *tar.Header
	content []byte
}

func build(root, scripts, version, arch string, at time.Time) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(scripts, "manifest.json"))
	if err != nil {
		return nil, err
	}
	var compact map[string]any
	if err := json.Unmarshal(text, &compact); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	names, ok := architectures[arch]
	if !ok {
		return nil, fmt.Errorf("no architecture %q", arch)
	}
	install, err := os.ReadFile(filepath.Join(scripts, "pre-install"))
	if err != nil {
		return nil, err
	}
	files, size, err := read(root, at)
	if err != nil {
		return nil, err
	}
	// A static binary runs on every version of FreeBSD that its compiler supports.
	compact["abi"], compact["arch"] = "FreeBSD:*:"+names[0], "freebsd:*:"+names[1]
	compact["version"], compact["flatsize"] = version, size
	full := maps.Clone(compact)
	full["scripts"] = map[string]string{"pre-install": string(install)}
	list, folders := map[string]any{}, map[string]any{}
	for _, f := range files {
		entry := map[string]string{"uname": f.header.Uname, "gname": f.header.Gname,
			"perm": fmt.Sprintf("%04o", f.header.Mode)}
		if f.header.Typeflag == tar.TypeDir {
			folders[strings.TrimSuffix(f.header.Name, "/")] = entry
		} else {
			entry["sum"] = fmt.Sprintf("1$%x", sha256.Sum256(f.content)) // 1 is SHA-256
			list[f.header.Name] = entry
		}
	}
	full["files"], full["directories"] = list, folders

	var b bytes.Buffer
	// With one goroutine, the bytes do not depend on the number of processors.
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	for _, m := range []struct {
		name string
		of   map[string]any
	}{{"+COMPACT_MANIFEST", compact}, {"+MANIFEST", full}} {
		var text bytes.Buffer
		j := json.NewEncoder(&text)
		j.SetEscapeHTML(false)
		if err := j.Encode(m.of); err != nil {
			return nil, err
		}
		files = append(files, entry{header(m.name, 0o644, at), text.Bytes()})
	}
	// The manifests come first.
	files = append(files[len(files)-2:], files[:len(files)-2]...)
	for _, f := range files {
		f.header.Size = int64(len(f.content))
		if err := w.WriteHeader(f.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func header(name string, mode fs.FileMode, at time.Time) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: int64(mode.Perm()), Uname: "root",
		Gname: "wheel", ModTime: at, Format: tar.FormatPAX}
}

// read returns the files below root, in the order of their names, and their size. Of the folders it
// returns only zmtpd's own: others may belong to other packages.
func read(root string, at time.Time) (files []entry, size int64, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{header: header(strings.TrimPrefix(path, root), info.Mode(), at)}
		if strings.Contains(e.header.Name, "/etc/zmtpd") {
			e.header.Gname = group
		}
		switch {
		case d.IsDir() && d.Name() != "zmtpd":
			return nil
		case d.IsDir():
			e.header.Typeflag, e.header.Name = tar.TypeDir, e.header.Name+"/"
		default:
			if e.content, err = os.ReadFile(path); err != nil {
				return err
			}
			size += int64(len(e.content))
		}
		files = append(files, e)
		return nil
	})
	return files, size, err
}
