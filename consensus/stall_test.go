package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A stall is a cluster of which one node's disk or machine can stand still
// while its ticker and its wire go on. Every node has a pool of its own.
type stall struct {
	*cluster
	disks    []*stuckDisk
	machines []*stuck
	wires    []*wiretap

	mu     sync.Mutex
	events []consensus.Event // guarded by mu; of nodes, not of groups
}

// A wiretap notes what a node sends.
type wiretap struct {
	transport.Transport
	mu   sync.Mutex
	sent map[string]int // guarded by mu; by kind
}

func (l *wiretap) Send(to consensus.NodeID, c transport.Class, msgs []transport.Message) {
	l.mu.Lock()
	for _, m := range msgs {
		l.sent[kindOf(transport.Pending{Message: m})]++
	}
	l.mu.Unlock()
	l.Transport.Send(to, c, msgs)
}

// take returns what was sent since the last call.
func (l *wiretap) take() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent := l.sent
	l.sent = map[string]int{}
	return sent
}

func bootStall(t *testing.T, timeout time.Duration, with setup) *stall {
	s := &stall{disks: make([]*stuckDisk, 3), machines: make([]*stuck, 3), wires: make([]*wiretap, 3)}
	w := slow(with)
	w.workers = 1
	w.link.Loss, w.link.Duplicate, w.link.Reorder = 0, 0, 0
	w.fs = func(i int, fs vfs.FS) vfs.FS {
		s.disks[i] = &stuckDisk{FS: fs}
		return s.disks[i]
	}
	w.wire = func(i int, n transport.Transport) transport.Transport {
		s.wires[i] = &wiretap{Transport: n, sent: map[string]int{}}
		return s.wires[i]
	}
	w.options = func(o *consensus.Options) {
		o.StallTimeout = timeout
		o.Events = func(e consensus.Event) {
			if e.Group == 0 {
				s.mu.Lock()
				s.events = append(s.events, e)
				s.mu.Unlock()
			}
		}
		i, inner := o.Node-1, o.Machine
		o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
			sm, err := inner(g)
			if g > 1 {
				return sm, err
			}
			s.machines[i] = &stuck{StateMachine: sm}
			return s.machines[i], err
		}
	}
	s.cluster = boot(t, w)
	return s
}

// where names what stands still.
var where = map[string]func(*stall, int) func(){
	"log":    func(s *stall, i int) func() { return shut(&s.disks[i].sync.shut) },
	"worker": func(s *stall, i int) func() { return shut(&s.machines[i].apply.shut) },
}

// lead returns the place of the node that leads, but for the one given.
func (s *stall) lead(but int) int {
	for i, h := range s.hosts {
		if _, ok := h.Lease(1); ok && i != but {
			return i
		}
	}
	return -1
}

func (s *stall) get(i int, key string) string {
	v, _ := s.machines[i].StateMachine.(interface {
		Get([]byte) ([]byte, bool)
	}).Get([]byte(key))
	return string(v)
}

// propose proposes in the background.
func (s *stall) propose(i int, key, value string) chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := s.hosts[i].Propose(context.Background(), 1, put(key, value))
		ended <- err
	}()
	return ended
}

// A leader whose log or machine stands still while its node's ticker goes on
// would hold its followers for ever. It is replaced, and joins again when it
// goes on. What was proposed to it is told how it ended.
func TestStalledLeaderIsReplaced(t *testing.T) {
	for name, stand := range where {
		t.Run("at="+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bootStall(t, 0, setup{apart: true})
				s.put(t.Context(), 1, "k", "before")
				old := s.lead(-1)
				open := sync.OnceFunc(stand(s, old))
				t.Cleanup(open)
				hung := []chan error{s.propose(old, "a", "v")}
				time.Sleep(10 * time.Millisecond)
				hung = append(hung, s.propose(old, "b", "v"), s.propose(old, "c", "v"))
				began := time.Now()
				require.Eventually(t, func() bool { return s.lead(old) >= 0 }, time.Minute, time.Millisecond)
				require.InDelta(t, 3*time.Second, time.Since(began), float64(time.Second), "the timeout, the promise, an election")
				next := s.lead(old)
				_, err := s.hosts[next].Propose(t.Context(), 1, put("k", "after"))
				require.NoError(t, err)
				require.True(t, s.hosts[old].Stats().Stalled)
				_, held := s.hosts[old].Lease(1)
				require.False(t, held)

				open()
				time.Sleep(5 * time.Second)
				require.NoError(t, s.hosts[old].ReadIndex(t.Context(), 1))
				require.Equal(t, "after", s.get(old, "k"))
				require.False(t, s.hosts[old].Stats().Stalled)
				require.Equal(t, uint64(1), s.hosts[old].Stats().Stalls)
				for i, key := range []string{"a", "b", "c"} {
					err := <-hung[i]
					require.True(t, err == nil || errors.Is(err, consensus.ErrUnknown) || errors.Is(err, consensus.ErrRejected), "%v", err)
					require.False(t, errors.Is(err, consensus.ErrRejected) && s.get(old, key) != "", "%s was applied, and rejected: %v", key, err)
					require.False(t, err == nil && s.get(next, key) == "", "%s was not applied, and its client was told so", key)
				}
				node := s.hosts[old].Node()
				require.Equal(t, []consensus.Event{{Kind: consensus.EventStall, Node: node}, {Kind: consensus.EventResume, Node: node}}, s.events)
			})
		})
	}
}

// Without the timeout the node goes on to vouch for itself, and nobody else can
// lead: the failure that the timeout is for.
func TestStalledLeaderStaysWithoutATimeout(t *testing.T) {
	for name, stand := range where {
		t.Run("at="+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bootStall(t, -1, setup{apart: true})
				s.put(t.Context(), 1, "k", "v")
				old := s.lead(-1)
				open := sync.OnceFunc(stand(s, old))
				t.Cleanup(open)
				hung := s.propose(old, "a", "v")
				time.Sleep(time.Minute)
				require.Equal(t, -1, s.lead(old))
				require.Empty(t, hung)
				open()
				require.NoError(t, <-hung)
			})
		})
	}
}

// A pause below the timeout changes nothing.
func TestShortStallChangesNothing(t *testing.T) {
	for name, stand := range where {
		t.Run("at="+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bootStall(t, 0, setup{apart: true})
				s.put(t.Context(), 1, "k", "v")
				old := s.lead(-1)
				term := s.term(s.hosts[old])
				for range 3 {
					open := sync.OnceFunc(stand(s, old))
					t.Cleanup(open)
					hung := s.propose(old, "k", "w")
					time.Sleep(1900 * time.Millisecond)
					open()
					require.NoError(t, <-hung)
				}
				require.Equal(t, old, s.lead(-1))
				require.Equal(t, term, s.term(s.hosts[old]))
				require.Zero(t, s.hosts[old].Stats().Stalls)
				require.Empty(t, s.events)
			})
		})
	}
}

// While a node stands still it sends nothing that makes others believe in it:
// as a leader no frames, heartbeats and appends, as a follower no requests for
// votes, not even when it is told to campaign.
func TestStalledNodeDoesNotVouchForItself(t *testing.T) {
	vouching := []string{"Frame", pb.MsgHeartbeat.String(), pb.MsgApp.String(), pb.MsgPreVote.String(), pb.MsgVote.String()}
	for _, leads := range []bool{true, false} {
		t.Run(fmt.Sprintf("leads=%v", leads), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bootStall(t, 0, setup{apart: true, groups: 2})
				s.put(t.Context(), 1, "k", "v")
				s.put(t.Context(), 2, "k", "v")
				time.Sleep(time.Second)
				leader := s.lead(-1)
				node := leader
				if !leads {
					node = (leader + 1) % 3
				}
				open := sync.OnceFunc(shut(&s.disks[node].sync.shut))
				t.Cleanup(open)
				go s.hang(2)
				time.Sleep(100 * time.Millisecond)
				require.NotZero(t, s.wires[node].take()["Frame"])
				require.Eventually(t, func() bool { return s.hosts[node].Stats().Stalled }, time.Minute, time.Millisecond)
				s.wires[node].take()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if leads {
					go func() { _ = s.hosts[node].Reconfigure(ctx, 1, learner(4, 4)) }()
					for range 40 { // reads make a leader ask its followers
						ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
						_ = s.hosts[node].ReadIndex(ctx, 1)
						cancel()
					}
				} else {
					require.Error(t, s.hosts[leader].Transfer(ctx, 1, consensus.ReplicaID(node+1)))
					s.crash(leader)
					time.Sleep(5 * time.Second)
				}
				sent := s.wires[node].take()
				for _, kind := range vouching {
					require.Zero(t, sent[kind], "%s: %v", kind, sent)
				}
				open()
				time.Sleep(time.Second)
				require.NotZero(t, s.wires[node].take()["Frame"])
			})
		})
	}
}

// hang proposes to g until somebody has taken the command.
func (s *stall) hang(g consensus.GroupID) {
	_, _ = s.leader(g).Propose(context.Background(), g, put("k", "v"))
}

func learner(id consensus.ReplicaID, node consensus.NodeID) consensus.Change {
	return consensus.Change{Steps: []consensus.ChangeStep{{Kind: consensus.AddLearner, Member: consensus.Member{Replica: id, Node: node}}}}
}

// A worker that stands still in the machine of one host says nothing about the
// other hosts of the pool.
func TestStallIsThatOfTheHostThatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bootStall(t, 0, setup{})
		s.put(t.Context(), 1, "k", "v")
		open := sync.OnceFunc(shut(&s.machines[2].apply.shut))
		t.Cleanup(open)
		hung := s.propose(s.lead(-1), "a", "v")
		time.Sleep(10 * time.Second)
		for i, h := range s.hosts {
			require.Equal(t, i == 2, h.Stats().Stalled, "host %d", i+1)
		}
		open()
		<-hung
	})
}

// A jumpy clock is one whose process got no processor for a while.
type jumpyClock struct {
	mu  sync.Mutex
	now time.Duration // guarded by mu
}

func (c *jumpyClock) Wall() time.Time { return time.Time{} }
func (c *jumpyClock) Mono() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *jumpyClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

// Time in which the ticker did not run is no evidence against the disk: a gap of
// an hour counts as two ticks.
func TestGapsBetweenTicksAreNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, disk := &jumpyClock{}, &stuckDisk{}
		c := boot(t, setup{nodes: 1, replicas: 1,
			raftlog: func(o *raftlog.Options) { o.Inline = false },
			fs:      func(_ int, fs vfs.FS) vfs.FS { disk.FS = fs; return disk },
			options: func(o *consensus.Options) { o.Clock, o.Manual, o.StallTimeout = clock, true, time.Second },
		})
		h := c.hosts[0]
		open := sync.OnceFunc(shut(&disk.sync.shut))
		t.Cleanup(open)
		go func() { _, _ = h.Propose(context.Background(), 1, put("k", "v")) }()
		tick := func(d time.Duration) bool {
			synctest.Wait()
			clock.jump(d)
			h.Tick()
			return h.Stats().Stalled
		}
		require.False(t, tick(time.Hour), "the first look sees what is under way")
		for i := range 9 {
			require.False(t, tick(time.Hour), "after %d gaps", i+1)
		}
		require.True(t, tick(100*time.Millisecond))
		open()
		require.False(t, tick(50*time.Millisecond))
	})
}
