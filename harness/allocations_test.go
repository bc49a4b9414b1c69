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
