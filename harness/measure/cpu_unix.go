//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package measure

import (
	"syscall"
	"time"
)

// CPU returns the processor time this process has used so far, all threads
// together, in user mode and in the kernel. ok is false where the platform
// does not tell.
func CPU() (user, system time.Duration, ok bool) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0, 0, false
	}
	return time.Duration(ru.Utime.Nano()), time.Duration(ru.Stime.Nano()), true
}
