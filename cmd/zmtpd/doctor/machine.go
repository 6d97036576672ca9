package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp/memory"
)

// Machine is what the doctor asks the host. Tests replace parts of it.
type Machine struct {
	Now                 func() time.Time
	ClockUnsynchronized func() bool            // the kernel knows that nothing keeps the clock right
	Descriptors         func() uint64          // the limit that a daemon can reach, 0 if it is unknown
	Memory              func() (int64, string) // bytes, and "cgroup" or "host"
	Disk                func(string) (Disk, error)
	ModTime             func(path string) (time.Time, error)
	LeadsTo             func(endpoint, bound string) bool // see daemon.LeadsTo
	Run                 func(ctx context.Context, name string, args ...string) (string, error)
	Resolve             func(path string) string // without symbolic links
	Dial                func(ctx context.Context, network, address string) (net.Conn, error)
	Listen              func(ctx context.Context, network, address string) (net.Listener, error)
}

// Disk is the state of a folder and its file system.
type Disk struct {
	Missing             bool // with an error: the folder does not exist
	Free, Size          int64
	InodesUsedUp        bool
	InMemory            bool
	Written             int64 // bytes, in the time WriteTime with SyncTime
	WriteTime, SyncTime time.Duration
}

// NewMachine returns this host.
func NewMachine() Machine {
	return Machine{
		Now:                 time.Now,
		ClockUnsynchronized: clockUnsynchronized,
		Descriptors:         descriptors,
		Memory:              memory.Available,
		Disk:                examineDisk,
		ModTime: func(path string) (time.Time, error) {
			info, err := os.Stat(path)
			if err != nil {
				return time.Time{}, err
			}
			return info.ModTime(), nil
		},
		LeadsTo: func(endpoint, bound string) bool {
			return daemon.LeadsTo(context.Background(), endpoint, bound)
		},
		Run: run,
		Resolve: func(path string) string {
			if real, err := filepath.EvalSymlinks(path); err == nil {
				return real
			}
			return path
		},
		Dial:   (&net.Dialer{KeepAlive: -1}).DialContext,
		Listen: (&net.ListenConfig{}).Listen,
	}
}

// maxOutput bounds what is kept of a program's output, in bytes.
const maxOutput = 1 << 20

// run runs a program and returns its output.
func run(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.WaitDelay = time.Second
	out := &bounded{}
	c.Stdout, c.Stderr = out, out
	err := c.Run()
	return string(out.text), err
}

// bounded keeps the beginning of what is written.
type bounded struct{ text []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxOutput-len(b.text))]...)
	return len(p), nil
}

// sample is what is written to measure a disk, in bytes: enough to see that it is much too slow,
// and little enough not to hold up others.
const sample = 4 << 20

// examineDisk writes a file into a folder, and removes it.
func examineDisk(dir string) (d Disk, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return Disk{Missing: errors.Is(err, fs.ErrNotExist)}, err
	}
	if !info.IsDir() {
		return d, fmt.Errorf("%s is no folder", dir)
	}
	if err := d.space(dir); err != nil {
		return d, err
	}
	f, err := os.CreateTemp(dir, ".zmtpd-doctor-*")
	if err != nil {
		return d, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if d.Free < 4*sample {
		return d, nil // disk-full is enough to know
	}
	block := make([]byte, 64<<10)
	begin := time.Now()
	for d.Written < sample {
		n, err := f.Write(block)
		d.Written += int64(n)
		if err != nil {
			return d, err
		}
	}
	sync := time.Now()
	if err := f.Sync(); err != nil {
		return d, err
	}
	d.WriteTime, d.SyncTime = time.Since(begin), time.Since(sync)
	return d, nil
}
