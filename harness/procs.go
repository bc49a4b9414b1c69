package harness

import (
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// cpuFlag is -cpu as the user gave it; nil before the first run of package
// testing.
var cpuFlag atomic.Pointer[string]

// lastBegun is the name of the benchmark that began last.
var lastBegun atomic.Pointer[string]

// useProcs gives the first sample of b the number of processors that its line
// will name. Package testing sets that number for every sample but the first,
// which it runs before, to see whether b has children; with b.Loop that is a
// whole measurement, taken with what the benchmark before has left. Samples of
// one benchmark follow each other, so a new name means a first sample.
func useProcs(b *testing.B) {
	name := b.Name()
	if last := lastBegun.Swap(&name); last != nil && *last == name {
		return
	}
	list := cpuFlag.Load()
	if list == nil {
		return
	}
	if n, ok := firstProcs(*list); ok && n != runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(n)
	}
}

// firstProcs returns the first number in a list of -cpu.
func firstProcs(list string) (int, bool) {
	first, _, _ := strings.Cut(list, ",")
	n, err := strconv.Atoi(strings.TrimSpace(first))
	return n, err == nil && n > 0
}
