//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package measure

import "time"

// CPU returns the processor time this process has used so far, all threads
// together, in user mode and in the kernel. ok is false where the platform
// does not tell, as here.
func CPU() (user, system time.Duration, ok bool) { return 0, 0, false }
