package transport

import (
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// limitUnacked has the kernel give a connection up when it has repeated what
// was written for so long, in whole seconds. See its twin for Linux.
func limitUnacked(c *net.TCPConn, limit time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	seconds := min(max(int64(math.Ceil(limit.Seconds())), 1), math.MaxInt32)
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RXT_CONNDROPTIME, int(seconds))
	})
	if err != nil {
		return err
	}
	return failed
}
