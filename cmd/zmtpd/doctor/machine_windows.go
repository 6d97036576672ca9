package doctor

import "golang.org/x/sys/windows"

func clockUnsynchronized() bool { return false }

// descriptors returns 0: there is no limit.
func descriptors() uint64 { return 0 }

// space asks for the free space of a disk.
func (d *Disk) space(dir string) error {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	var free, size, allFree uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &size, &allFree); err != nil {
		return err
	}
	d.Free, d.Size = int64(free), int64(size)
	return nil
}
