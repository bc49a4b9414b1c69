package txn_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
)

// A mixer runs random transactions on lists and records what they did.
type mixer struct {
	w       *world
	history isolation.History
	began   time.Time
	value   atomic.Uint64
	keys    int
	options txn.TxOptions
	faults  bool            // errors are to be expected
	counts  [3]atomic.Int64 // by outcome
}

func (m *mixer) key(i int) string { return fmt.Sprintf("%02d/list", i*100/m.keys) }

func listOf(b []byte) (list []uint64) {
	for ; len(b) > 0; b = b[8:] {
		list = append(list, binary.BigEndian.Uint64(b))
	}
	return list
}

// one runs one transaction.
func (m *mixer) one(ctx context.Context, c *txn.Client, client int, rng *rand.Rand) {
	h := isolation.Txn{Client: client, Begin: time.Since(m.began)}
	tx, err := c.Begin(ctx, m.options)
	if err != nil {
		return
	}
	for range 1 + rng.IntN(4) {
		key := m.key(rng.IntN(m.keys))
		get := tx.Get
		write := rng.IntN(2) == 0
		if write && rng.IntN(2) == 0 {
			get = tx.GetForUpdate
		}
		b, _, e := get(ctx, key)
		if err = e; err != nil {
			break
		}
		h.Ops = append(h.Ops, isolation.Op{Kind: isolation.ReadList, Key: key, List: listOf(b)})
		if write {
			v := m.value.Add(1)
			if err = tx.Put(key, binary.BigEndian.AppendUint64(b, v)); err != nil {
				break
			}
			h.Ops = append(h.Ops, isolation.Op{Kind: isolation.Append, Key: key, Value: v})
		}
	}
	committing := err == nil
	if committing {
		err = tx.Commit(ctx)
	} else {
		tx.Rollback(ctx)
	}
	var aborted *txn.AbortedError
	switch {
	case err == nil:
		h.Outcome = isolation.Committed
	case errors.As(err, &aborted):
		h.Outcome = isolation.Aborted
	case errors.Is(err, consensus.ErrUnknown):
		h.Outcome = isolation.Unknown
	case m.faults:
		h.Outcome = isolation.Unknown
		if !committing {
			h.Outcome = isolation.Aborted
		}
	default:
		m.w.t.Errorf("client %d: %v", client, err)
		return
	}
	h.End = time.Since(m.began)
	m.counts[h.Outcome].Add(1)
	m.history.Add(h)
}

// run has clients run transactions for a while.
func (m *mixer) run(clients int, d time.Duration) {
	m.began = time.Now()
	ctx, cancel := context.WithTimeout(m.w.t.Context(), d)
	defer cancel()
	var work sync.WaitGroup
	for i := range clients {
		c := m.w.client(1+i%len(m.w.Nodes()), txn.ClientOptions{})
		rng := rand.New(rand.NewPCG(harness.Seed(), uint64(i)))
		work.Go(func() {
			for ctx.Err() == nil {
				m.one(within(m.w.t, time.Minute), c, i, rng)
			}
		})
	}
	work.Wait()
}

// check has the history checked against a level.
func (m *mixer) check(level isolation.Level) {
	m.w.t.Helper()
	report, err := isolation.Check(&m.history, level)
	require.NoError(m.w.t, err)
	m.w.t.Logf("%d committed, %d aborted, %d unknown", m.counts[isolation.Committed].Load(), m.counts[isolation.Aborted].Load(), m.counts[isolation.Unknown].Load())
	for _, a := range report.Violations() {
		m.w.t.Errorf("%v", a)
		for _, s := range a.Cycle {
			x := m.history.Txn(s.Txn)
			m.w.t.Logf("%v", x.String())
		}
	}
}

// Transactions of one shard are serializable.
func TestHistoryOfOneShard(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 1})
	m := &mixer{w: w, keys: 6}
	m.run(8, 2*time.Second)
	m.check(isolation.Serializable)
}

// So are those of several, by either protocol.
func TestHistory(t *testing.T) {
	for _, protocol := range []txn.Protocol{txn.OneRound, txn.TwoPhase} {
		for level, want := range map[txn.Level]isolation.Level{
			txn.Snapshot: isolation.Snapshot, txn.Serializable: isolation.Serializable, txn.Strict: isolation.StrictSerializable,
		} {
			t.Run(fmt.Sprintf("%v/%v", protocol, level), func(t *testing.T) {
				w := boot(t, worldOptions{nodes: 5, shards: 4})
				m := &mixer{w: w, keys: 8, options: txn.TxOptions{Set: true, Level: level, Protocol: protocol}}
				m.run(8, 2*time.Second)
				m.check(want)
			})
		}
	}
}
