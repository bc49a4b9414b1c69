package harness

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// magics are the file systems worth a name, by the number statfs gives them.
var magics = map[uint32]string{
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.NFS_SUPER_MAGIC:       "nfs",
	0x2fc12fc1:                 "zfs",
}

// fileSystem names the file system of dir; "unknown" if it cannot be asked.
func fileSystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown"
	}
	magic := uint32(st.Type)
	if name, ok := magics[magic]; ok {
		return name
	}
	return fmt.Sprintf("0x%x", magic)
}

// flush makes the data of f durable, without its times.
func flush(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
