package transport

import (
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// limitUnacked has the kernel give a connection up when what was written is not
// acknowledged for so long (RFC 5482). Keep-alive probes a connection that is
// idle only: without this limit a peer that vanished with data under way is
// noticed after a quarter of an hour, and one that returns waits for the next
// repetition, up to two minutes.
func limitUnacked(c *net.TCPConn, limit time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	ms := min(max(limit.Milliseconds(), 1), math.MaxInt32)
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms))
	})
	if err != nil {
		return err
	}
	return failed
}
