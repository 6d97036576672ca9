//go:build unix

package doctor

import "golang.org/x/sys/unix"

// descriptors returns the hard limit on file descriptors, to which a daemon raises its soft limit.
func descriptors() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Max)
}

// space asks for the free space of a file system.
func (d *Disk) space(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	d.Free, d.Size = int64(st.Bavail)*int64(st.Bsize), int64(st.Blocks)*int64(st.Bsize)
	d.InodesUsedUp = st.Files > 0 && st.Ffree == 0
	d.InMemory = inMemory(&st)
	return nil
}
