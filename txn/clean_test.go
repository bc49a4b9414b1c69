package txn_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// What a node leaves that dies is ended many at a time, and so that nothing of it can
// come any more: ten thousand intents of as many transactions, whose anchors are in
// another shard.
func TestIntentsOfTheDead(t *testing.T) {
	many := 10_000
	if raceEnabled {
		many = 1000
	}
	w := boot(t, worldOptions{nodes: 4, shards: 2})
	leader, p := w.leader("00")
	other, _ := w.leader("90")
	number := 2
	for w.Node(number) == leader || w.Node(number) == other {
		number++
	}
	dead := w.Node(number) // which leads nothing
	left := func(i int) id.Txn {
		now, err := p.Clock().Timestamp(t.Context())
		require.NoError(t, err)
		return id.Txn{Key: id.Key{Node: uint64(dead.ID()), Epoch: dead.Epoch(), Seq: 1<<40 + uint64(i), Start: now}, Anchor: fmt.Sprintf("90/%06d", i)}
	}
	var work sync.WaitGroup
	for part := range 64 {
		work.Go(func() {
			for i := part; i < many; i += 64 {
				if !assert.NoError(t, txn.LeaveBy(within(t, time.Minute), w.Node(1), left(i), fmt.Sprintf("00/%06d", i))) {
					return
				}
			}
		})
	}
	work.Wait()
	require.GreaterOrEqual(t, w.intents(), many*9/10) // some may have been found to be abandoned by now
	w.Crash(number)
	_, err := w.Node(1).Await(within(t, 20*time.Second), func(s *meta.State) bool {
		n, ok := s.Node(dead.ID())
		return ok && n.Condition == meta.Dead
	})
	require.NoError(t, err)
	began := time.Now()
	require.Eventually(t, func() bool {
		n, led := w.laid()
		return led == len(w.ids) && n == 0
	}, 20*time.Second, time.Millisecond)
	t.Logf("%d intents were gone %v after the node was declared dead", many, time.Since(began))

	// What was still on its way does not arrive: not an intent, and where the anchors are
	// not a record. On a slow machine all may have been found to be abandoned before the
	// node was dead; then it takes what arrives first for others to fence it.
	late := many
	fenced := func(promised ...string) func() bool {
		return func() bool {
			late++
			name, key := left(late), fmt.Sprintf("00/%06d", late)
			if len(promised) > 0 {
				key = name.Anchor
			}
			err := txn.Prepare(within(t, time.Minute), w.Node(1), name, promised, mvcc.Write{Key: key, Kind: mvcc.Put})
			var no *txn.Refusal
			return errors.As(err, &no) && no.Reason == txn.Fenced
		}
	}
	require.Eventually(t, fenced(), 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, fenced("00/promised"), 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return w.intents() == 0 }, 20*time.Second, time.Millisecond)
	o, err := w.client(1, txn.ClientOptions{}).Outcome(within(t, 10*time.Second), left(0))
	require.NoError(t, err)
	require.False(t, o.Committed)
}
