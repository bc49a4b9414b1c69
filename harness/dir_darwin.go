package harness

import (
	"os"

	"golang.org/x/sys/unix"
)

// fileSystem names the file system of dir; "unknown" if it cannot be asked.
func fileSystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(st.Fstypename[:])
}

// flush makes the data of f durable. Sync asks the drive to empty its cache
// here (F_FULLFSYNC), which a plain fsync does not.
func flush(f *os.File) error { return f.Sync() }
