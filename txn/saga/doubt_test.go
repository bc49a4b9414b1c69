package saga_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// A doubt has nobody know what came of one transaction that writes. It has committed, or
// it has not, or it comes to its commit later.
type doubt struct {
	client *txn.Client
	kind   string
	at     int // which transaction, from 1

	mu   sync.Mutex
	seen int

	release chan struct{} // closed when those that are late come to their commits
	late    sync.WaitGroup
}

// on has the doubt begin, in a while, with one of the transactions to come.
func (d *doubt) on(at int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.seen = at, 0
}

func (d *doubt) run(ctx context.Context, o txn.TxOptions, fn func(*txn.Tx) error) error {
	d.mu.Lock()
	d.seen++
	doubtful := d.seen == d.at && !o.ReadOnly
	d.mu.Unlock()
	unknown := fmt.Errorf("it is in doubt: %w", consensus.ErrUnknown)
	switch {
	case !doubtful:
		return d.client.Run(ctx, o, fn)
	case d.kind == "committed":
		if err := d.client.Run(ctx, o, fn); err != nil {
			return err
		}
		return unknown
	case d.kind == "lost":
		return unknown
	}
	entered := make(chan error, 1)
	d.late.Go(func() {
		tx, err := d.client.Begin(context.Background(), o)
		if err == nil {
			err = fn(tx)
		}
		if entered <- err; err != nil {
			return
		}
		<-d.release
		_ = tx.Commit(context.Background())
	})
	if err := <-entered; err != nil {
		return err
	}
	return unknown
}

// A transaction of which nobody knows whether it committed is done once in the end, be
// it that it did, or did not, or would later.
func TestDoubt(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	away := adds("b", "40/b", "a")
	away.At = func([]byte) string { return "40/" }
	out := newOutside()
	call := out.step("b", nil, "a") // which nobody can ask what happened
	list := []*saga.Definition{
		define("calls", adds("a", "10/a"), call, adds("c", "80/c", "b")),
		define("calls back", adds("a", "10/a"), call, failing("c", "b")),
		define("good", adds("a", "10/a"), away, adds("c", "80/c", "b")),
		define("bad", adds("a", "10/a"), away, locks("80/c", adds("c", "80/c", "b")), failing("d", "c")),
	}
	for _, kind := range []string{"committed", "lost", "late"} {
		d := &doubt{client: w.clients[0], kind: kind, release: make(chan struct{})}
		o, err := saga.OpenStill(within(t, time.Minute), d.run, saga.Options{Name: kind, Homes: []string{home}, Definitions: list})
		require.NoError(t, err)
		names := map[string]*saga.Definition{}
		results := map[string]*saga.Result{}
		for _, def := range list {
			for at := 1; at < 10; at++ {
				name := fmt.Sprintf("%s %s %d", def.Name, kind, at)
				d.on(at)
				names[name], results[name] = def, finish(t, start(t, o, name, def.Name, ""))
			}
		}
		d.on(0)
		close(d.release)
		d.late.Wait()
		for name, def := range names {
			check(t, w, out, def, results[name])
		}
		require.NoError(t, o.Close(t.Context()))
	}
}

// To start something else under the name of a saga that there was is refused, also where
// nobody knows at first what came of it.
func TestDoubtAboutAnother(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	d := &doubt{client: w.clients[0], kind: "lost"}
	o, err := saga.OpenStill(within(t, time.Minute), d.run, saga.Options{Name: "o", Homes: []string{home}, Definitions: []*saga.Definition{
		define("long", adds("a", "10/a"), adds("b", "40/b", "a"), adds("c", "80/c", "b")), define("short", adds("a", "10/a")),
	}})
	require.NoError(t, err)
	finish(t, start(t, o, "one", "long", ""))
	d.on(1)
	_, err = o.Start(within(t, 30*time.Second), id("one"), "short", 1, nil)
	var different *saga.DifferentError
	require.ErrorAs(t, err, &different)
	d.on(1)
	require.Equal(t, saga.Done, finish(t, start(t, o, "one", "long", "")).State)
	require.EqualValues(t, 1, w.counter("10/a/one"))
	require.NoError(t, o.Close(t.Context()))
}
