package txn_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// What is read ahead of all clocks stays as it was read, also where the one who leads next
// has a clock that is behind.
func TestReadsAheadOutliveTheirSeat(t *testing.T) {
	const behind = 150 * time.Millisecond
	w := boot(t, worldOptions{nodes: 3, shards: 1, participant: func(i int, o *txn.Options) {
		wall := steady
		if i == 3 {
			wall = func() time.Time { return steady().Add(-behind) }
		}
		c, err := hlc.NewClock(wall, hlc.DefaultBound)
		require.NoError(t, err)
		o.Clock = c
	}})
	ctx := within(t, time.Minute)
	c1, c3 := w.client(1, txn.ClientOptions{}), w.client(3, txn.ClientOptions{})
	for range 2 {
		w.leads(1, "00")
		w.put(c1, "00", "before")
		clock := w.parts[0].Clock()
		time.Sleep(2*clock.Bound() + behind) // what was written with the seat is of the past by now
		at := hlc.At(clock.Wall()).Add(clock.Bound())
		get := func() (value string) {
			require.NoError(t, c1.Run(ctx, txn.TxOptions{At: at}, func(tx *txn.Tx) error {
				b, _, err := tx.Get(ctx, "00")
				value = string(b)
				return err
			}))
			return value
		}
		require.Equal(t, "before", get())
		// At once: what a clock shows soon is not ahead any more.
		sh, _ := w.Node(1).Locate("00")
		i := slices.IndexFunc(sh.Members, func(m meta.Member) bool { return m.Node == w.Node(3).ID() })
		require.NoError(t, w.Node(1).Host().Transfer(ctx, consensus.GroupID(sh.Shard), sh.Members[i].Replica))
		w.put(c3, "00", "after")
		require.Equal(t, "before", get())
	}
}
