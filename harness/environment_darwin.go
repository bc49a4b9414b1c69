package harness

import (
	"golang.org/x/sys/unix"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// hasDataFlush is false: flush is F_FULLFSYNC here, which is what Sync does too.
const hasDataFlush = false

func describeMachine(e *artifact.Environment) {
	if s, err := unix.Sysctl("machdep.cpu.brand_string"); err == nil {
		e.CPU = s
	}
	if n, err := unix.SysctlUint64("hw.memsize"); err == nil && n < 1<<60 {
		e.Memory = int64(n)
	}
	if s, err := unix.Sysctl("kern.osrelease"); err == nil {
		e.Kernel = s
	}
	if n, err := unix.SysctlUint32("kern.hv_vmm_present"); err == nil && n != 0 {
		e.Virtualization = "yes"
	}
}
