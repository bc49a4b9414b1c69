package txn_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
)

// BenchmarkRecover asks how long it takes until the rows of a transaction can be written
// again whose coordinator crashes, or the leader of one of its two shards, when its
// locks and its intents are there and nobody has heard yet that they are: from the crash
// until another transaction has committed to the same rows. That one finds what was
// written in both shards, or in neither; verified-ops is how often it was asked. Links
// have 5 ms there and back, which has crashes come in time, and nodes find each other
// missing within 80 to 160 ms.
//
//	go test -run='^$' -bench=Recover -count=10 ./txn
func BenchmarkRecover(b *testing.B) {
	for _, crash := range []string{"coordinator", "leader"} {
		b.Run(harness.Name("crash", crash), func(b *testing.B) { benchAbandoned(b, crash, 2, txn.OneRound) })
	}
}

func benchAbandoned(b *testing.B, crash string, shards int, protocol txn.Protocol) {
	w := bootBench(b, benchSetup{nodes: 8, local: func(o *cluster.LocalOptions) {
		inner := o.Node
		o.Node = func(i int, c *cluster.Options) {
			inner(i, c)
			lan(c)
		}
	}})
	w.slow(wideTrip)
	verified := 0
	// What a node counted goes with it, so that costs would be no figures.
	harness.Events(b, harness.Spec{}, func(i int) (harness.Event, error) {
		ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
		defer cancel()
		a, err := w.abandon(ctx, i, shards, protocol)
		if err != nil {
			return harness.Event{}, err
		}
		victim := a.coordinator
		if crash == "leader" {
			victim = a.leader
		}
		began := time.Now()
		w.crash(victim)
		err = a.takeOver(ctx, w, protocol == txn.TwoPhase)
		took := time.Since(began)
		if err == nil {
			verified++
		}
		a.stop()
		if back := w.back(ctx, victim); err == nil {
			err = back
		}
		return harness.Event{Took: took}, err
	})
	b.ReportMetric(float64(verified), "verified-ops")
}

// An abandoned transaction is one that nobody ends.
type abandoned struct {
	keys                []string
	coordinator, leader int    // node numbers; neither is 1, and they differ
	stop                func() // ends its commit, if its node has not
}

// abandon begins to commit a transaction and returns when its locks are there, and, in
// several shards, its intents.
func (w *bench) abandon(ctx context.Context, i, shards int, protocol txn.Protocol) (*abandoned, error) {
	a := &abandoned{}
	// Node 1 watches, and is there for the others to join again.
	at := 0
	for a.leader = w.leader(at); a.leader <= 1; a.leader = w.leader(at) {
		if at++; at == len(w.ids) {
			return nil, errors.New("no shard is led by any but node 1")
		}
	}
	for j := range shards {
		a.keys = append(a.keys, w.key((at+j)%len(w.ids), i))
	}
	for n := 2; a.coordinator == 0; n++ {
		if n != a.leader && n != w.leader((at+1)%len(w.ids)) {
			a.coordinator = n
		}
	}
	commit, stop := context.WithCancel(ctx)
	c := w.client(a.coordinator, txn.ClientOptions{Protocol: protocol})
	tx, err := c.Begin(commit, txn.TxOptions{})
	for _, key := range a.keys {
		if err == nil {
			_, _, err = tx.GetForUpdate(commit, key)
		}
		if err == nil {
			err = tx.Put(key, []byte("left"))
		}
	}
	ended := make(chan struct{})
	a.stop = func() { stop(); <-ended }
	if err != nil || shards == 1 {
		close(ended)
		return a, err
	}
	go func() {
		defer close(ended)
		_ = tx.Commit(commit) // what becomes of it is what the others find out
	}()
	for n := w.intents(); n < shards; n = w.intents() {
		if ctx.Err() != nil {
			a.stop()
			return nil, fmt.Errorf("%d intents, expected %d: %w", n, shards, ctx.Err())
		}
		time.Sleep(20 * time.Microsecond)
	}
	return a, nil
}

// takeOver writes the rows of a transaction that was abandoned. It is an error if only
// some of what that one wrote is there, or any of it where it had not decided.
func (a *abandoned) takeOver(ctx context.Context, w *bench, none bool) error {
	return w.client(1, txn.ClientOptions{}).Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		there := 0
		for _, key := range a.keys {
			b, _, err := tx.GetForUpdate(ctx, key)
			if err != nil {
				return err
			}
			if string(b) == "left" {
				there++
			}
			if err := tx.Put(key, []byte("taken")); err != nil {
				return err
			}
		}
		if there != 0 && (none || there != len(a.keys)) {
			return fmt.Errorf("%d of %d rows of a transaction that was abandoned", there, len(a.keys))
		}
		return nil
	})
}

// back starts a node again and returns when all nodes live and all shards are led.
func (w *bench) back(ctx context.Context, i int) error {
	if err := w.start(ctx, i); err != nil {
		return err
	}
	if err := w.Node(i).Joined(ctx); err != nil {
		return err
	}
	w.slow(wideTrip) // its new end
	_, err := w.Node(1).Await(ctx, func(s *meta.State) bool {
		for _, n := range s.Nodes() {
			if n.Condition != meta.Live {
				return false
			}
		}
		return len(s.Moves()) == 0
	})
	for j := range w.ids {
		for err == nil && w.leader(j) == 0 {
			if err = ctx.Err(); err == nil {
				time.Sleep(time.Millisecond)
			}
		}
	}
	return err
}
