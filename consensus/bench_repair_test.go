package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

// shortTicks make a repair begin soon: a leader asks a follower that it lost
// again at every heartbeat, and none of that is the repair's own cost.
func shortTicks(o *consensus.Options) { o.TickInterval = 10 * time.Millisecond }

// patience keeps leaders in office through the load of a benchmark with
// shortTicks that is not about elections.
func patience(o *consensus.Options) {
	o.ElectionTicks, o.LeaseDuration = 100, time.Second
}

// BenchmarkConflict asks what it takes to repair a follower whose log has a
// tail that nobody else has: a leader is cut off with as many commands on its
// hands as the name says, one entry each; another is elected; from the end of
// the cut on, time, messages and bytes are counted until the old leader has
// applied what the new one committed. Heartbeats are 10 ms apart.
//
//	go test -run='^$' -bench=Conflict -count=10 ./consensus
func BenchmarkConflict(b *testing.B) {
	for _, entries := range harness.Points([]int{100}, []int{1, 100, 10000}) {
		b.Run(harness.Name("entries", entries), func(b *testing.B) {
			w := &watch{}
			c := bootBench(b, setup{disk: "none", net: "sim", options: func(o *consensus.Options) {
				shortTicks(o)
				o.ElectionTicks = 200 // so long the leader takes commands alone
				o.MaxBatchCommands = 1
				w.options(o)
			}})
			c.events(b, harness.Spec{}, 60*time.Second, func(ctx context.Context, old *consensus.Host) (harness.Event, error) {
				return c.conflict(ctx, old, w, entries)
			})
		})
	}
}

func (c *cluster) conflict(ctx context.Context, old *consensus.Host, w *watch, entries int) (harness.Event, error) {
	c.wire.Partition([]consensus.NodeID{old.Node()}, c.others(old))
	lost, err := c.diverge(ctx, old, entries)
	if err != nil {
		c.wire.Heal()
		return harness.Event{}, err
	}
	next, err := c.anyLeader(ctx, c.others(old), putOf("k", 128))
	if err != nil {
		return harness.Event{}, err
	}
	st, err := next.Status(1)
	if err != nil {
		return harness.Event{}, err
	}
	before := c.counters()
	start := time.Now()
	c.wire.Heal()
	err = w.wait(ctx, old.Node(), st.Applied)
	took := time.Since(start)
	after := c.counters()
	if err := errors.Join(err, lost()); err != nil {
		return harness.Event{}, err
	}
	return harness.Event{Took: took, Values: map[string]float64{
		"msgs/op":   float64(after.Messages - before.Messages),
		"wire-B/op": float64(after.WireBytes - before.WireBytes),
	}}, nil
}

// diverge gives a leader that is cut off commands that cannot commit, and
// returns when all are in its log. The function returned waits for their end:
// each must have been rejected.
func (c *cluster) diverge(ctx context.Context, l *consensus.Host, entries int) (func() error, error) {
	before, err := l.Status(1)
	if err != nil {
		return nil, err
	}
	data := putOf("lost", 128)
	var wg sync.WaitGroup
	ends := make([]error, entries)
	for i := range entries {
		wg.Go(func() { _, ends[i] = l.Propose(ctx, 1, consensus.Command{Data: data}) })
	}
	for {
		st, err := l.Status(1)
		if err != nil {
			return nil, err
		}
		if st.Last >= before.Last+uint64(entries) {
			break
		}
		if st.Role != "leader" || ctx.Err() != nil {
			return nil, fmt.Errorf("a tail of %d entries of %d: %v", st.Last-before.Last, entries, st)
		}
		time.Sleep(time.Millisecond)
	}
	return func() error {
		wg.Wait()
		for _, err := range ends {
			if !errors.Is(err, consensus.ErrRejected) {
				return fmt.Errorf("a command that was lost ended with %w", err)
			}
		}
		return nil
	}, nil
}

// BenchmarkCatchUp asks how fast a follower that was away gets what it missed:
// size bytes of commands from the leader's log, or the machine, of that size,
// as a snapshot. Heartbeats are 10 ms apart. Where the run's data is larger than
// the size of the quick mode, as in the stress mode, it is what was missed.
//
//	go test -run='^$' -bench=CatchUp -count=10 ./consensus
func BenchmarkCatchUp(b *testing.B) {
	disks, sizes := []string{"none"}, []int{max(16<<20, harness.DataBytes())}
	if harness.Full() {
		disks, sizes = []string{"none", "sync"}, []int{1 << 20, 16 << 20, 256 << 20}
	}
	sizes = harness.Axis("data", sizes...)
	// With less there is nothing to catch up with, or the log is never cut.
	sizes[0] = max(sizes[0], 1<<20)
	for _, disk := range harness.Axis("disk", disks...) {
		for _, by := range []string{"log", "snapshot"} {
			for _, size := range sizes {
				b.Run(harness.Name("by", by, "disk", harness.DiskLabel(disk), "size", size), func(b *testing.B) {
					w := &watch{}
					c := bootBench(b, setup{disk: disk, net: "sim", marshal: true, options: func(o *consensus.Options) {
						shortTicks(o)
						patience(o)
						o.LogTailBytes = int64(size) / 4
						if by == "log" {
							o.LogTailBytes = 4 * int64(size) // half of it always stays
						}
						w.options(o)
					}})
					c.events(b, harness.Spec{Counters: c.counters, Ready: c.ready}, 90*time.Second, func(ctx context.Context, l *consensus.Host) (harness.Event, error) {
						return c.catchUp(ctx, l, w, by, size)
					})
				})
			}
		}
	}
}

// missedBytes is the size of one command that the follower misses. All of an
// event have their own keys, and all events the same ones.
const missedBytes = 16 << 10

func (c *cluster) catchUp(ctx context.Context, l *consensus.Host, w *watch, by string, size int) (harness.Event, error) {
	away := c.hosts[c.others(l)[0]-1]
	missed, err := away.Status(1)
	if err != nil {
		return harness.Event{}, err
	}
	c.wire.Partition([]consensus.NodeID{away.Node()}, c.others(away))
	if err := c.fill(ctx, l, size); err != nil {
		return harness.Event{}, err
	}
	st, err := c.cut(ctx, l, by == "snapshot", missed.Last)
	if err != nil {
		return harness.Event{}, err
	}
	snapshots := away.Stats().SnapshotsReceived
	start := time.Now()
	c.wire.Heal()
	err = w.wait(ctx, away.Node(), st.Applied)
	took := time.Since(start)
	if err != nil {
		leads, _ := l.Status(1)
		return harness.Event{}, fmt.Errorf("%w; leader: %v; match %v", err, leads, leads.Match)
	}
	if got := away.Stats().SnapshotsReceived > snapshots; got != (by == "snapshot") {
		err = fmt.Errorf("by %s, but snapshot received is %v", by, got)
	}
	return harness.Event{Took: took, Bytes: int64(size), Entries: int64(st.Last - missed.Last)}, err
}

// fill writes size bytes through the leader.
func (c *cluster) fill(ctx context.Context, l *consensus.Host, size int) error {
	const clients = 32
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			for k := i; k < size/missedBytes && errs[i] == nil; k += clients {
				_, errs[i] = l.Propose(ctx, 1, consensus.Command{Data: putOf(fmt.Sprint("k", k), missedBytes)})
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// cut waits until the leader's log begins behind index, or makes sure that it
// does not, and returns the leader's state.
func (c *cluster) cut(ctx context.Context, l *consensus.Host, cut bool, index uint64) (consensus.Status, error) {
	for {
		st, err := l.Status(1)
		switch {
		case err != nil || st.First > index+1 == cut:
			return st, err
		case !cut || ctx.Err() != nil:
			return st, fmt.Errorf("the log begins at %d, and the follower ends at %d: expected a gap is %v", st.First, index, cut)
		}
		time.Sleep(time.Millisecond)
	}
}
