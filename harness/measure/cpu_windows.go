package measure

import (
	"syscall"
	"time"
)

// CPU returns the processor time this process has used so far, all threads
// together, in user mode and in the kernel. ok is false where the platform
// does not tell. Windows counts it in steps of its tick, up to 15.6 ms: that is 6 %
// of what one processor does in 250 ms.
func CPU() (user, system time.Duration, ok bool) {
	self, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0, 0, false
	}
	var created, exited, kernel, usr syscall.Filetime
	if err := syscall.GetProcessTimes(self, &created, &exited, &kernel, &usr); err != nil {
		return 0, 0, false
	}
	return span(usr), span(kernel), true
}

// span reads a Filetime as a length of time in steps of 100 ns. Its own
// Nanoseconds method reads it as a date and subtracts the epoch.
func span(f syscall.Filetime) time.Duration {
	return time.Duration(int64(f.HighDateTime)<<32|int64(f.LowDateTime)) * 100
}
