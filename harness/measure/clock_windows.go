package measure

import (
	"syscall"
	"time"
	"unsafe"
)

// A counter reads the performance counter of Windows, which moves ten million
// times a second. Package testing measures ns/op by it, too.
type counter struct {
	frequency int64 // ticks a second; 0: not started, or there is none
	first     int64
}

var (
	kernel32  = syscall.NewLazyDLL("kernel32.dll")
	ticks     = kernel32.NewProc("QueryPerformanceCounter")
	frequency = kernel32.NewProc("QueryPerformanceFrequency")
)

// start leaves c unstarted where there is no such counter, which Windows rules
// out since XP.
func (c *counter) start() {
	var f int64
	if ok, _, _ := frequency.Call(uintptr(unsafe.Pointer(&f))); ok == 0 || f <= 0 || f > 1e9 {
		return
	}
	c.frequency, c.first = f, readTicks()
}

func (c counter) counts() bool         { return c.frequency > 0 }
func (c counter) since() time.Duration { return scale(readTicks()-c.first, c.frequency) }

// readTicks calls by address: LazyProc.Call would allocate its list of arguments
// for every operation.
func readTicks() (n int64) {
	_, _, _ = syscall.SyscallN(ticks.Addr(), uintptr(unsafe.Pointer(&n)))
	return n
}
