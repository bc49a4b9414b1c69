package txn_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
)

// BenchmarkRollback asks what an aborted transaction costs, from its beginning to its
// end, that locks and reads a row in each of so many shards and writes it:
// its client gives it up; another transaction commits to the same rows before it does,
// whose time does not count; or its node crashes when its locks and, in two shards,
// its intents are there, and the time is until another transaction has written the same
// rows. Nothing of it is seen afterwards: verified-ops is how many were looked for.
//
//	go test -run='^$' -bench=Rollback -count=10 ./txn
func BenchmarkRollback(b *testing.B) {
	for _, cause := range []string{"client", "conflict", "crash"} {
		for _, shards := range []int{1, 2} {
			b.Run(harness.Name("cause", cause, "shards", shards), func(b *testing.B) {
				if cause == "crash" {
					benchAbandoned(b, "coordinator", shards, txn.TwoPhase)
					return
				}
				w := bootBench(b, benchSetup{})
				c, rival := w.client(1, txn.ClientOptions{}), w.client(2, txn.ClientOptions{})
				verified := 0
				harness.Events(b, harness.Spec{Counters: w.counters}, func(i int) (harness.Event, error) {
					keys := make([]string, shards)
					for j := range keys {
						keys[j] = w.key(1+7*j, i)
					}
					give := giveUp
					if cause == "conflict" {
						give = func(ctx context.Context, c *txn.Client, keys []string) (time.Duration, error) {
							return beBeaten(ctx, c, rival, keys)
						}
					}
					took, err := give(b.Context(), c, keys)
					if err == nil {
						err = without(b.Context(), rival, keys, "lost")
					}
					if err == nil {
						verified++
					}
					return harness.Event{Took: took}, err
				})
				b.ReportMetric(float64(verified), "verified-ops")
			})
		}
	}
}

// giveUp rolls a transaction back that has locks.
func giveUp(ctx context.Context, c *txn.Client, keys []string) (time.Duration, error) {
	began := time.Now()
	tx, err := c.Begin(ctx, txn.TxOptions{})
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if _, _, err := tx.GetForUpdate(ctx, key); err != nil {
			return 0, err
		}
		if err := tx.Put(key, []byte("lost")); err != nil {
			return 0, err
		}
	}
	tx.Rollback(ctx)
	return time.Since(began), nil
}

// beBeaten has a transaction commit too late. It has no locks: a rival would wait for
// them.
func beBeaten(ctx context.Context, c, rival *txn.Client, keys []string) (time.Duration, error) {
	began := time.Now()
	tx, err := c.Begin(ctx, txn.TxOptions{})
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if _, _, err := tx.Get(ctx, key); err != nil {
			return 0, err
		}
		if err := tx.Put(key, []byte("lost")); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	if err := rival.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		for _, key := range keys {
			if err := tx.Put(key, []byte("kept")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return 0, err
	}
	began = time.Now()
	err = tx.Commit(ctx)
	took += time.Since(began)
	var aborted *txn.AbortedError
	if !errors.As(err, &aborted) {
		return 0, fmt.Errorf("a transaction that read what was overwritten is not aborted: %w", cmp.Or(err, errCommitted))
	}
	return took, nil
}

var errCommitted = errors.New("committed")

// without requires that no row has a value.
func without(ctx context.Context, c *txn.Client, keys []string, value string) error {
	return c.Run(ctx, latest, func(tx *txn.Tx) error {
		for _, key := range keys {
			b, _, err := tx.Get(ctx, key)
			if err != nil {
				return err
			}
			if string(b) == value {
				return fmt.Errorf("row %q is %q, which was never committed", key, b)
			}
		}
		return nil
	})
}
