package harness

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMicro(t *testing.T) {
	n := 0
	res, failed := bench(t, "1000x", func(b *testing.B) { Micro(b, func() error { n++; return nil }) })
	require.False(t, failed)
	require.Equal(t, 1000, n)
	require.Contains(t, res.Extra, "ops/s")
	require.NotContains(t, res.Extra, "p50-ns")
	_, failed = bench(t, "1000x", func(b *testing.B) { Micro(b, func() error { return errors.New("no") }) })
	require.True(t, failed)
}

func TestEvents(t *testing.T) {
	var c Counters
	res, failed := bench(t, "40x", func(b *testing.B) {
		s := Spec{Counters: func() Counters { return c }, Warmup: 4}
		Events(b, s, func(i int) (Event, error) {
			c.Messages += 7
			if i%4 == 3 {
				return Event{}, errors.New("no quorum")
			}
			// 10, 20, 30 ms in turn; only the first kind states a detection.
			e := Event{Took: time.Duration(i%4+1) * 10 * time.Millisecond, Bytes: 1_000_000, Entries: 100}
			if i%4 == 0 {
				e.Values = map[string]float64{"detect-ns": 5e6}
			}
			return e, nil
		})
	})
	require.False(t, failed)
	x := res.Extra
	require.InDelta(t, 20e6, x["ns/op"], 1)
	require.InDelta(t, 20e6, x["avg-ns"], 1)
	require.InDelta(t, 10e6, x["min-ns"], 1)
	require.InDelta(t, 30e6, x["max-ns"], 1)
	require.InEpsilon(t, 20e6, x["p50-ns"], 0.001)
	require.NotContains(t, x, "p90-ns")
	require.InEpsilon(t, 50, x["MB/s"], 1e-9)
	require.InEpsilon(t, 5000, x["entries/s"], 1e-9)
	require.InDelta(t, 5e6, x["detect-ns"], 1e-6)
	require.InDelta(t, 0.25, x["errors/op"], 1e-9)
	require.InDelta(t, 7, x["msgs/op"], 1e-9)
}

// The first event of a process is dearer than those after it, and on no line.
func TestEventsWarmUp(t *testing.T) {
	for _, c := range []struct{ warmup, want int }{{0, 1}, {3, 3}, {-1, 0}} {
		var seen []int
		count := Counters{Messages: 1}
		res, failed := bench(t, "2x", func(b *testing.B) {
			Events(b, Spec{Warmup: c.warmup, Counters: func() Counters { return count }}, func(i int) (Event, error) {
				seen = append(seen, i)
				if i < c.want {
					count.Messages += 1000
					return Event{Took: time.Hour}, errors.New("cold")
				}
				count.Messages += 3
				return Event{Took: time.Millisecond}, nil
			})
		})
		require.False(t, failed)
		require.Equal(t, 2, res.N)
		require.Len(t, seen, c.want+2)
		for i, n := range seen {
			require.Equal(t, i, n, "events are numbered without a gap")
		}
		require.InDelta(t, 1e6, res.Extra["max-ns"], 0)
		require.InDelta(t, 3, res.Extra["msgs/op"], 1e-9)
		require.Zero(t, res.Extra["errors/op"])
	}
}

func TestEventsFailAloud(t *testing.T) {
	for name, op := range map[string]func(int) (Event, error){
		"all errors":   func(int) (Event, error) { return Event{}, errors.New("no") },
		"unknown unit": func(int) (Event, error) { return Event{Took: 1, Values: map[string]float64{"furlongs": 1}}, nil },
	} {
		_, failed := bench(t, "3x", func(b *testing.B) { Events(b, Spec{}, op) })
		require.True(t, failed, name)
	}
	_, failed := bench(t, "3x", func(b *testing.B) {
		Events(b, Spec{Ready: func(context.Context) error { return errors.New("no") }},
			func(int) (Event, error) { t.Error("must not run"); return Event{}, nil })
	})
	require.True(t, failed)
}
