package transport

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// An inbox records what arrives.
type inbox struct {
	mu   sync.Mutex
	got  []Message
	at   []time.Time
	lost []NodeID
}

func (i *inbox) Receive(_ NodeID, m []Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for range m {
		i.at = append(i.at, time.Now())
	}
	i.got = append(i.got, m...)
}

func (i *inbox) Unreachable(to NodeID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lost = append(i.lost, to)
}

func (i *inbox) len() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.got)
}

func (i *inbox) unreached() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.lost)
}

// indexes are the numbers of what numbered made.
func (i *inbox) indexes() []uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []uint64
	for _, m := range i.got {
		all = append(all, m.Raft.GetIndex())
	}
	return all
}

// numbered makes n heartbeats that tell their number in Index.
func numbered(n int) []Message { return numberedFrom(0, n) }

func numberedFrom(first, n int) []Message {
	m := make([]Message, n)
	for i := range m {
		m[i] = Message{Group: 1, From: 1, To: 2, Raft: &pb.Message{
			Type: pb.MsgHeartbeat.Enum(), Index: proto.Uint64(uint64(first + i)),
		}}
	}
	return m
}

// couple brings up nodes 1 and 2 and returns their inboxes.
func couple(n *Network) (a, b *Sim, atA, atB *inbox) {
	a, b, atA, atB = n.Node(1), n.Node(2), &inbox{}, &inbox{}
	a.Receive(atA)
	b.Receive(atB)
	return a, b, atA, atB
}

// bubble runs a test on a network in virtual time.
func bubble(t *testing.T, o NetworkOptions, f func(t *testing.T, n *Network)) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(o)
		f(t, n)
		require.NoError(t, n.Close())
	})
}

func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestSimPerfectLinkSharesAndDoesNotAllocate(t *testing.T) {
	n := NewNetwork(NetworkOptions{})
	a, b, _, in := couple(n)
	m := numbered(3)
	a.Send(2, Data, m)
	require.Same(t, m[0].Raft, in.got[0].Raft)
	require.NoError(t, b.Close())
	n.Node(2).Receive(&counter{})
	require.Zero(t, testing.AllocsPerRun(100, func() { a.Send(2, Data, m) }))
	require.NoError(t, n.Close())
}

func TestSimMarshalSharesNothing(t *testing.T) {
	n := NewNetwork(NetworkOptions{Marshal: true})
	a, b, _, in := couple(n)
	m := newMaker(5).messages(20)
	a.Send(2, Data, m)
	require.NoError(t, equal(m, in.got))
	for i := range m {
		if m[i].Raft != nil {
			require.NotSame(t, m[i].Raft, in.got[i].Raft)
		}
	}
	b.Handle("id", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
	req := []byte("abc")
	got, err := a.Call(t.Context(), 2, "id", req)
	require.NoError(t, err)
	require.Equal(t, "abc", string(got))
	require.NotSame(t, &req[0], &got[0])
	require.NoError(t, n.Close())
}

func TestSimDelayAndJitter(t *testing.T) {
	const delay, jitter = 5 * time.Millisecond, 3 * time.Millisecond
	bubble(t, NetworkOptions{Default: Link{Delay: delay, Jitter: jitter}}, func(t *testing.T, n *Network) {
		a, _, _, in := couple(n)
		const count = 500
		var sent []time.Time
		for i := range count {
			sent = append(sent, time.Now())
			a.Send(2, Data, numberedFrom(i, 1))
			advance(100 * time.Microsecond)
		}
		advance(delay + jitter)
		spread := make(map[time.Duration]bool)
		for i, index := range in.indexes() {
			require.Equal(t, uint64(i), index, "jitter keeps the order")
			took := in.at[i].Sub(sent[i])
			require.GreaterOrEqual(t, took, delay)
			require.LessOrEqual(t, took, delay+jitter)
			spread[took] = true
		}
		require.Equal(t, count, in.len())
		require.Greater(t, len(spread), count/4, "jitter is drawn")
	})
}

// A precise network spins before a delivery, but not where time stands still
// while it does.
func TestSimPreciseInABubble(t *testing.T) {
	bubble(t, NetworkOptions{Precise: true, Default: Link{Delay: 5 * time.Millisecond}}, func(t *testing.T, n *Network) {
		a, _, _, in := couple(n)
		start := time.Now()
		for i := range 3 {
			a.Send(2, Data, numberedFrom(i, 1))
		}
		advance(5 * time.Millisecond)
		require.Equal(t, []uint64{0, 1, 2}, in.indexes())
		require.Equal(t, 5*time.Millisecond, in.at[2].Sub(start))
	})
}

// A link that becomes perfect while messages are under way must not let later
// ones overtake them.
func TestSimChangeKeepsOrder(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: time.Millisecond}}, func(t *testing.T, n *Network) {
		a, _, _, in := couple(n)
		a.Send(2, Data, numberedFrom(0, 1))
		n.SetLink(1, 2, Link{})
		a.Send(2, Data, numberedFrom(1, 1))
		synctest.Wait()
		require.Zero(t, in.len())
		advance(time.Millisecond)
		a.Send(2, Data, numberedFrom(2, 1))
		require.Equal(t, []uint64{0, 1, 2}, in.indexes())
	})
}

func TestSimBandwidth(t *testing.T) {
	m := numbered(1)
	bytes := bytesOf(m)
	// One message a millisecond.
	bubble(t, NetworkOptions{Default: Link{BytesPerSecond: int64(bytes) * 1000}}, func(t *testing.T, n *Network) {
		a, _, _, in := couple(n)
		start := time.Now()
		for range 10 {
			a.Send(2, Data, m)
		}
		a.Send(2, Control, m)
		advance(20 * time.Millisecond)
		require.Equal(t, 11, in.len())
		require.Equal(t, time.Millisecond, in.at[0].Sub(start))
		require.Equal(t, time.Millisecond, in.at[1].Sub(start), "control does not wait behind data")
		for i, at := range in.at[1:] {
			require.InDelta(t, float64(i+1)*1e6, float64(at.Sub(start)), 1e3)
		}
	})
}

// fates sends count messages over a link and returns their order of arrival.
func fates(t *testing.T, seed uint64, l Link, count int) (got []uint64, s Stats) {
	bubble(t, NetworkOptions{Seed: seed, Default: l}, func(t *testing.T, n *Network) {
		a, _, _, in := couple(n)
		for i := 0; i < count; i += 10 {
			a.Send(2, Data, numberedFrom(i, 10))
			advance(time.Millisecond)
		}
		advance(time.Second)
		got, s = in.indexes(), a.Stats()
	})
	return got, s
}

func TestSimChancesBySeed(t *testing.T) {
	const count = 5000
	for name, l := range map[string]Link{
		"instant": {Loss: 0.2, Duplicate: 0.1, Reorder: 0.05},
		"delayed": {Loss: 0.2, Duplicate: 0.1, Reorder: 0.05, Delay: 3 * time.Millisecond, Jitter: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			got, s := fates(t, 1, l, count)
			again, _ := fates(t, 1, l, count)
			require.Equal(t, got, again, "a seed decides every fate")
			other, _ := fates(t, 2, l, count)
			require.NotEqual(t, got, other)

			times := make(map[uint64]int)
			late, highest := 0, uint64(0)
			for _, index := range got {
				times[index]++
				if index < highest && times[index] == 1 {
					late++
				}
				highest = max(highest, index)
			}
			twice := 0
			for _, n := range times {
				require.LessOrEqual(t, n, 2)
				twice += n - 1
			}
			// Five standard deviations of these binomials are below 3 %.
			require.InDelta(t, 0.2*count, count-len(times), 0.03*count)
			require.InDelta(t, 0.8*0.1*count, twice, 0.03*count)
			require.InDelta(t, 0.8*0.05*count, late, 0.03*count)
			require.Greater(t, late, 50)
			require.Equal(t, uint64(count-len(times)), s.Out[Data].Dropped)
			require.Equal(t, uint64(count+twice), s.Out[Data].Messages)
		})
	}
}

func TestSimPartition(t *testing.T) {
	n := NewNetwork(NetworkOptions{})
	a, b, atA, atB := couple(n)
	c, atC := n.Node(3), &inbox{}
	c.Receive(atC)
	all := func() {
		for _, s := range []*Sim{a, b, c} {
			for to := NodeID(1); to <= 3; to++ {
				s.Send(to, Data, numbered(1))
			}
		}
	}
	counts := func() []int { return []int{atA.len(), atB.len(), atC.len()} }
	n.Partition([]NodeID{1, 2}, []NodeID{3})
	all()
	require.Equal(t, []int{2, 2, 1}, counts(), "one reaches oneself and one's side")
	require.Equal(t, uint64(2), c.Stats().Out[Data].Dropped)
	n.Heal()
	all()
	require.Equal(t, []int{5, 5, 4}, counts())
	n.Cut(1, 2)
	all()
	require.Equal(t, []int{8, 7, 7}, counts(), "one direction only")
	require.Zero(t, atA.unreached()+atB.unreached()+atC.unreached(), "a cut is silent")
	require.NoError(t, n.Close())
}

func TestSimCutLosesWhatIsUnderWay(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: 2 * time.Millisecond}}, func(t *testing.T, n *Network) {
		a, b, _, in := couple(n)
		a.Send(2, Data, numbered(3))
		advance(time.Millisecond)
		n.Cut(1, 2)
		advance(time.Second)
		require.Zero(t, in.len())
		require.Equal(t, uint64(3), b.Stats().In[Data].Dropped)
	})
}

func TestSimRestart(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: time.Millisecond}}, func(t *testing.T, n *Network) {
		a, b, lost, old := couple(n)
		a.Send(2, Data, numberedFrom(0, 1))
		require.NoError(t, b.Close())
		require.NoError(t, b.Close(), "twice is allowed")
		a.Send(2, Data, numberedFrom(1, 1))
		a.Send(2, Data, numberedFrom(2, 1))
		require.Equal(t, []NodeID{2}, lost.lost, "told once")
		require.Equal(t, uint64(2), a.Stats().Out[Data].Dropped)

		b = n.Node(2)
		in := &inbox{}
		b.Receive(in)
		require.Panics(t, func() { n.Node(2) }, "up already")
		advance(time.Second)
		require.Zero(t, old.len()+in.len(), "what was under way to the old one is lost")
		a.Send(2, Data, numberedFrom(3, 1))
		advance(time.Millisecond)
		require.Equal(t, []uint64{3}, in.indexes())
		require.NoError(t, b.Close())
		a.Send(2, Data, numberedFrom(4, 1))
		require.Equal(t, []NodeID{2, 2}, lost.lost, "the next episode is told again")
		b.Send(1, Data, numbered(1))
		require.Equal(t, uint64(1), b.Stats().Out[Data].Dropped, "a closed node sends nothing")
	})
}

// Nodes that close leave nothing under way behind, even if nobody closes the
// network.
func TestSimCloseEmptiesTheWire(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: time.Hour}}, func(t *testing.T, n *Network) {
		a, b, _, _ := couple(n)
		start := time.Now()
		a.Send(2, Data, numbered(1))
		require.NoError(t, b.Close())
		require.NoError(t, a.Close())
		n.wire.running.Wait()
		require.Zero(t, time.Since(start))
	})
}

func TestSimQueueIsBounded(t *testing.T) {
	m := numbered(1)
	bytes := int64(bytesOf(m))
	bubble(t, NetworkOptions{QueueBytes: 10 * bytes, Default: Link{Delay: time.Second}}, func(t *testing.T, n *Network) {
		a, _, lost, in := couple(n)
		for range 100 {
			a.Send(2, Data, m)
		}
		a.Send(2, Control, m)
		require.Equal(t, uint64(90), a.Stats().Out[Data].Dropped)
		require.Equal(t, uint64(10*bytes), a.Stats().Out[Data].Bytes)
		require.Equal(t, []NodeID{2}, lost.lost)
		advance(time.Second)
		require.Equal(t, 11, in.len(), "classes do not share the bound")
		for range 11 {
			a.Send(2, Data, m)
		}
		require.Equal(t, []NodeID{2, 2}, lost.lost, "a new episode after the queue emptied")
	})
}

// Close returns only when no delivery is inside the receiver any more.
func TestSimCloseWaitsForReceive(t *testing.T) {
	n := NewNetwork(NetworkOptions{})
	a, b := n.Node(1), n.Node(2)
	inside, leave := make(chan struct{}), make(chan struct{})
	var order []string
	b.Receive(receiveFunc(func() {
		close(inside)
		<-leave
		order = append(order, "received")
	}))
	go a.Send(2, Data, numbered(1))
	<-inside
	closed := make(chan struct{})
	go func() {
		b.Close()
		order = append(order, "closed")
		close(closed)
	}()
	for !b.closed.Load() {
		time.Sleep(time.Microsecond)
	}
	close(leave)
	<-closed
	require.Equal(t, []string{"received", "closed"}, order)
	require.NoError(t, n.Close())
}

type receiveFunc func()

func (f receiveFunc) Receive(NodeID, []Message) { f() }
func (f receiveFunc) Unreachable(NodeID)        {}

func TestNetworkRefusesBadInput(t *testing.T) {
	n := NewNetwork(NetworkOptions{})
	for _, l := range []Link{{Delay: -1}, {Jitter: -1}, {Loss: -0.1}, {Duplicate: 1.1}, {Reorder: 2}, {BytesPerSecond: -1}} {
		require.Panics(t, func() { n.SetLink(1, 2, l) }, "%+v", l)
		require.Error(t, l.validate())
		require.Panics(t, func() { NewNetwork(NetworkOptions{Default: l}) })
	}
	require.Panics(t, func() { NewNetwork(NetworkOptions{QueueBytes: -1}) })
	require.Panics(t, func() { n.Node(0) })
	require.NoError(t, n.Close())
	require.Panics(t, func() { n.Node(1) }, "closed")
}

// Concurrent senders, changes of links, restarts and closing, for the race
// detector; whatever arrives keeps its order per sender.
func TestSimConcurrency(t *testing.T) {
	n := NewNetwork(NetworkOptions{Seed: 3, Default: Link{Delay: 20 * time.Microsecond, Jitter: 50 * time.Microsecond}})
	_, _, _, in := couple(n)
	var group sync.WaitGroup
	for id := NodeID(3); id < 7; id++ {
		s := n.Node(id)
		group.Go(func() {
			for i := range 300 {
				m := numberedFrom(i, 1)
				m[0].From = raftlog.ReplicaID(id)
				s.Send(2, Data, m)
				s.Send(1, Control, m)
			}
		})
	}
	group.Go(func() {
		for i := range 100 {
			n.SetLink(3, 2, Link{Delay: time.Duration(i%3) * 10 * time.Microsecond})
			n.Cut(4, 1)
			n.Heal()
		}
	})
	group.Wait()
	soon(t, "everything arrives", func() bool { return in.len() == 4*300 })
	next := make(map[raftlog.ReplicaID]uint64)
	for _, m := range in.got {
		require.Equal(t, next[m.From], m.Raft.GetIndex())
		next[m.From]++
	}
	require.NoError(t, n.Close())
}

func TestManualScript(t *testing.T) {
	n := NewNetwork(NetworkOptions{Manual: true})
	a, b, atA, atB := couple(n)
	a.Send(2, Data, numberedFrom(0, 3))
	b.Send(1, Control, numberedFrom(10, 1))
	pending := n.Pending()
	require.Len(t, pending, 4)
	require.Equal(t, Pending{Seq: 4, From: 2, To: 1, Class: Control, Message: pending[3].Message}, pending[3])
	require.Equal(t, 1, n.Deliver(1))
	require.Equal(t, []uint64{0}, atB.indexes())
	require.Equal(t, 1, n.DeliverIf(func(p Pending) bool { return p.To == 1 }))
	require.Equal(t, []uint64{10}, atA.indexes())
	require.Equal(t, 1, n.DropIf(func(p Pending) bool { return p.Message.Raft.GetIndex() == 1 }))
	require.Equal(t, 1, n.DeliverAll())
	require.Equal(t, []uint64{0, 2}, atB.indexes())
	require.Zero(t, n.DeliverAll())

	a.Send(2, Data, numberedFrom(20, 1))
	n.Cut(1, 2)
	require.Equal(t, 1, n.DeliverAll(), "taken and lost")
	a.Send(2, Data, numberedFrom(21, 1))
	require.Empty(t, n.Pending(), "lost when sent")
	n.Heal()
	a.Send(2, Data, numberedFrom(22, 1))
	require.NoError(t, b.Close())
	require.Empty(t, n.Pending(), "what waits for a closed node is lost")
	require.Equal(t, []uint64{0, 2}, atB.indexes())
	require.NoError(t, n.Close())
}

// What a delivery causes to be sent waits for the next.
func TestManualHoldsWhatDeliveriesSend(t *testing.T) {
	n := NewNetwork(NetworkOptions{Manual: true})
	a, b := n.Node(1), n.Node(2)
	a.Receive(receiveFunc(func() {}))
	b.Receive(receiveFunc(func() { b.Send(1, Data, numbered(1)) }))
	a.Send(2, Data, numbered(2))
	require.Equal(t, 2, n.DeliverAll())
	require.Len(t, n.Pending(), 2)
	require.NoError(t, n.Close())
}

func TestManualReplaysBySeed(t *testing.T) {
	run := func(seed uint64) (order []uint64) {
		n := NewNetwork(NetworkOptions{Manual: true, Seed: seed, Default: Link{Loss: 0.1, Duplicate: 0.1, Reorder: 0.2}})
		a, b, atA, atB := couple(n)
		for i := range 200 {
			a.Send(2, Data, numberedFrom(i, 3))
			b.Send(1, Data, numberedFrom(1000+i, 1))
			n.Deliver(i % 5)
		}
		for n.DeliverAll() > 0 {
		}
		require.NoError(t, n.Close())
		return append(atA.indexes(), atB.indexes()...)
	}
	first := run(1)
	require.Equal(t, first, run(1))
	require.NotEqual(t, first, run(2))
	require.False(t, slices.IsSorted(first))
}
