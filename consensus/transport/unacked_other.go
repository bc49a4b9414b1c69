//go:build !linux && !darwin

package transport

import (
	"net"
	"time"
)

// limitUnacked leaves it to the kernel how long it repeats what is not
// acknowledged: about 20 seconds on Windows, minutes elsewhere.
func limitUnacked(*net.TCPConn, time.Duration) error { return nil }
