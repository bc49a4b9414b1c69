package harness

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/load"
)

// What the harness itself needs must be there before the measured part, or the
// garbage of an operation depends on how many there were of them. 200 operations
// are fewer than fill the buffer of a client in the warm-up.
func TestShortRunsAllocateNothingOfTheHarness(t *testing.T) {
	for _, clients := range []int{1, 64} {
		for name, s := range map[string]Spec{
			"closed": {Clients: clients},
			"mix":    {Clients: clients, Mix: readsAndWrites(t)},
			"open":   {Clients: clients, Mix: readsAndWrites(t), Schedule: load.Constant(1e6), Overload: true},
		} {
			t.Run(fmt.Sprintf("%s/%d", name, clients), func(t *testing.T) {
				for _, count := range []string{"200x", "500x"} {
					res, failed := bench(t, count, func(b *testing.B) { Run(b, s, func(*Client) error { return nil }) })
					tail.take()
					require.False(t, failed)
					require.Less(t, res.Extra["B/op"], 64.0, "%s", count)
				}
			})
		}
	}
}

func TestShortEventsAllocateNothingOfTheHarness(t *testing.T) {
	res, failed := bench(t, "20x", func(b *testing.B) {
		Events(b, Spec{}, func(int) (Event, error) { return Event{Took: time.Millisecond}, nil })
	})
	require.False(t, failed)
	require.Less(t, res.Extra["B/op"], 64.0)
}

// Package testing cuts allocs/op to an integer: an operation that allocates in
// nine of ten calls prints 0. mallocs/op says it.
func TestFractionsOfAnAllocationArePrinted(t *testing.T) {
	var sink []byte
	n := 0
	allocate := func() {
		if n++; n%10 != 0 {
			sink = make([]byte, 64)
		}
	}
	for name, f := range map[string]func(b *testing.B){
		"run":   func(b *testing.B) { Run(b, Spec{Warmup: -1}, func(*Client) error { allocate(); return nil }) },
		"micro": func(b *testing.B) { Micro(b, func() error { allocate(); return nil }) },
		"events": func(b *testing.B) {
			Events(b, Spec{}, func(int) (Event, error) { allocate(); return Event{Took: 1}, nil })
		},
	} {
		n = 0
		res, failed := bench(t, "10000x", f)
		require.False(t, failed)
		require.InDelta(t, 0.9, res.Extra["mallocs/op"], 0.005, name)
		require.Zero(t, res.AllocsPerOp(), "%s: what package testing makes of it", name)
	}
	_ = sink
}

// Whoever tells of a system may allocate for it: that is not the operation's.
func TestReadingCountersCostsNoAllocation(t *testing.T) {
	counters := func() Counters {
		return Counters{Messages: 1, Classes: make([]ClassCounters, 100)}
	}
	res, failed := bench(t, "100x", func(b *testing.B) {
		s := Spec{Warmup: -1, Counters: counters, Loads: func() []int64 { return make([]int64, 1000) }}
		Run(b, s, func(*Client) error { return nil })
	})
	require.False(t, failed)
	require.Less(t, res.Extra["mallocs/op"], 0.02)
	require.Less(t, res.Extra["B/op"], 16.0)
}
