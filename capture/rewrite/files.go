package rewrite

import (
	"io"

	"zmtpd/capture"
)

// Files is a Source of the packets of several files, one after the other. It opens a file when the
// one before has ended, and closes it.
type Files struct {
	Open []func() (source capture.Source, closeFile func(), err error)

	source    capture.Source
	closeFile func()
}

// Next implements capture.Source.
func (f *Files) Next() (capture.Packet, error) {
	for {
		if f.source == nil {
			if len(f.Open) == 0 {
				return capture.Packet{}, io.EOF
			}
			var err error
			if f.source, f.closeFile, err = f.Open[0](); err != nil {
				return capture.Packet{}, err
			}
			f.Open = f.Open[1:]
		}
		p, err := f.source.Next()
		if err == nil {
			return p, nil
		}
		f.closeFile()
		f.source = nil
		if err != io.EOF {
			return capture.Packet{}, err
		}
	}
}
