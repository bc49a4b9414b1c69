package txn_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// A bank is what people do to accounts whose sum they do not change, and to pairs of which
// one must stand: what is wrong with it shows whatever else happens.
type bank struct {
	t        testing.TB
	accounts int
	pairs    int

	moved, audited, fell atomic.Int64
}

const eachHas = 100

func (b *bank) account(i int) string { return fmt.Sprintf("%02d/account", i*100/b.accounts) }

// pair are two keys in different parts of the span.
func (b *bank) pair(i int) [2]string {
	return [2]string{fmt.Sprintf("%02d/stands", i*50/b.pairs), fmt.Sprintf("%02d/stands", 50+i*50/b.pairs)}
}

// found makes the accounts and the pairs. It is strict: whoever comes later sees them.
func (b *bank) found(ctx context.Context, c *txn.Client) {
	require.NoError(b.t, c.Run(ctx, txn.TxOptions{Set: true, Level: txn.Strict}, func(tx *txn.Tx) error {
		for i := range b.accounts {
			if err := tx.Put(b.account(i), mvcc.AppendCounter(nil, eachHas)); err != nil {
				return err
			}
		}
		for i := range b.pairs {
			for _, key := range b.pair(i) {
				if err := tx.Put(key, []byte("yes")); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// work does one thing. That it fails is for others to judge.
func (b *bank) work(ctx context.Context, c *txn.Client, rng *rand.Rand) {
	switch rng.IntN(4) {
	case 0:
		b.audit(ctx, c, txn.TxOptions{Set: true, Level: txn.Level(rng.IntN(3)), ReadOnly: true, Followers: rng.IntN(3) == 0})
	case 1:
		b.fall(ctx, c, rng)
	default:
		b.move(ctx, c, rng)
	}
}

// move moves money, by adding or by reading and writing.
func (b *bank) move(ctx context.Context, c *txn.Client, rng *rand.Rand) {
	from, by := rng.IntN(b.accounts), 1+rng.IntN(b.accounts-1)
	to, v, adds := (from+by)%b.accounts, int64(1+rng.IntN(50)), rng.IntN(2) == 0
	o := txn.TxOptions{Set: true, Level: txn.Level(rng.IntN(2)), Protocol: txn.Protocol(rng.IntN(2))}
	err := c.Run(ctx, o, func(tx *txn.Tx) error {
		for key, d := range map[string]int64{b.account(from): -v, b.account(to): v} {
			if adds {
				if err := tx.AddBounded(key, d, 0, 1<<40); err != nil {
					return err
				}
				continue
			}
			n, err := tx.Count(ctx, key)
			if err == nil && n+d < 0 {
				return txn.ErrEnded // there is not so much
			}
			if err == nil {
				err = tx.Put(key, mvcc.AppendCounter(nil, n+d))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		b.moved.Add(1)
	}
}

// audit adds up all accounts at one moment.
func (b *bank) audit(ctx context.Context, c *txn.Client, o txn.TxOptions) {
	tx, err := c.Begin(ctx, o)
	if err != nil {
		return
	}
	defer tx.Rollback(ctx)
	rows, err := tx.Scan(ctx, "", "", 0)
	if err != nil {
		return
	}
	sum, n := int64(0), 0
	for _, r := range rows {
		if strings.HasSuffix(r.Key, "/account") {
			v, ok := mvcc.Counter(&mvcc.Version{TS: 1, Value: r.Value})
			if !ok || v < 0 {
				b.t.Errorf("%q has %x at %v", r.Key, r.Value, tx.At())
			}
			sum, n = sum+v, n+1
		}
	}
	switch {
	case n == 0 && o.Followers: // it reads from before there was a bank
	case n != b.accounts || sum != int64(b.accounts*eachHas):
		b.t.Errorf("%d accounts have %d at %v, with %+v, expected %d of %d each", n, sum, tx.At(), o, b.accounts, eachHas)
	default:
		b.audited.Add(1)
	}
}

// fall has one of two fall if both stand, and get up again if one does not. With nothing
// but snapshots both would fall before long.
func (b *bank) fall(ctx context.Context, c *txn.Client, rng *rand.Rand) {
	keys, which := b.pair(rng.IntN(b.pairs)), rng.IntN(2)
	err := c.Run(ctx, txn.TxOptions{Set: true, Level: txn.Serializable, Protocol: txn.Protocol(rng.IntN(2))}, func(tx *txn.Tx) error {
		var stands [2]bool
		for i, key := range keys {
			v, _, err := tx.Get(ctx, key)
			if err != nil {
				return err
			}
			stands[i] = string(v) == "yes"
		}
		switch {
		case stands[0] && stands[1]:
			return tx.Put(keys[which], []byte("no"))
		case stands[0]:
			return tx.Put(keys[1], []byte("yes"))
		case stands[1]:
			return tx.Put(keys[0], []byte("yes"))
		}
		b.t.Errorf("neither of %v stands at %v", keys, tx.At())
		return tx.Put(keys[0], []byte("yes"))
	})
	if err == nil {
		b.fell.Add(1)
	}
}
