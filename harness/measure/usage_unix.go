//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package measure

import (
	"math"
	"syscall"
)

// usageSource reads what getrusage tells beside processor time. Its largest
// resident size is left alone: on Linux it may be that of the parent before the
// exec, and elsewhere it comes in other units.
type usageSource struct{}

var usageMeters = []Meter{
	{"context-switches-voluntary", "1", Counter, "getrusage"},
	{"context-switches-forced", "1", Counter, "getrusage"},
	{"page-faults-major", "1", Counter, "getrusage"},
}

func (usageSource) meters() []Meter { return usageMeters }
func (usageSource) close() error    { return nil }

func (usageSource) read(into []float64) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		into[0], into[1], into[2] = math.NaN(), math.NaN(), math.NaN()
		return
	}
	into[0], into[1], into[2] = float64(ru.Nvcsw), float64(ru.Nivcsw), float64(ru.Majflt)
}
