package txn_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/lock"
)

// A ring of transactions that wait for each other, each in another shard, is broken by
// the end of the youngest, and the others go on.
func TestDeadlockAcrossShards(t *testing.T) {
	w := boot(t, worldOptions{nodes: 5, shards: 5, participant: func(_ int, o *txn.Options) { o.Policy = lock.Detect }})
	ctx := within(t, 30*time.Second)
	moved := 0
	for round := 0; round < 6+moved; round++ {
		n := []int{2, 3, 5}[(round-moved)%3]
		key := func(i int) string { return fmt.Sprintf("%02d/%d", i%n*20, round) }
		txs := make([]*txn.Tx, n)
		for i := range txs {
			var err error
			txs[i], err = w.client(i+1, txn.ClientOptions{}).Begin(ctx, txn.TxOptions{})
			require.NoError(t, err)
			_, _, err = txs[i].GetForUpdate(ctx, key(i))
			require.NoError(t, err)
		}
		began := time.Now()
		errs := make([]error, n)
		var work sync.WaitGroup
		for i, tx := range txs {
			work.Go(func() {
				if _, _, errs[i] = tx.GetForUpdate(ctx, key(i+1)); errs[i] == nil {
					if errs[i] = tx.Put(key(i), nil); errs[i] == nil {
						errs[i] = tx.Commit(ctx)
					}
				}
			})
		}
		work.Wait()
		if moved < 3 && !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
			moved++ // a shard is led by another node since, which knows no locks
			continue
		}
		t.Logf("%d went on after %v", n-1, time.Since(began))
		youngest := slices.MaxFunc(txs, func(a, b *txn.Tx) int { return id.Key.Compare(a.ID().Key, b.ID().Key) })
		for i, err := range errs {
			var aborted *txn.AbortedError
			if txs[i] != youngest {
				require.NoError(t, err)
				continue
			}
			require.ErrorAs(t, err, &aborted)
			require.Equal(t, txn.Deadlock, aborted.Reason)
		}
	}
}
