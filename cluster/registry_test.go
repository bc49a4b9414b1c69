package cluster_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify"
)

// What is asked of the registry, through any node, while nodes crash and are cut off,
// fits one order in time: whether guests drain is set, taken back and looked at, as the
// latest and under the lease.
func TestRegistryIsLinearizable(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	l := boot(t, 5, lan)
	await(t, l, "all replicas", settled)
	var guests []consensus.NodeID
	for i := range 3 {
		a, err := l.Node(1).Propose(within(t, time.Minute), &meta.Join{Request: uint64(100 + i), Profile: meta.Profile{Formats: meta.Range{Min: 1, Max: 1}}})
		require.NoError(t, err)
		guests = append(guests, consensus.NodeID(a.ID))
	}
	h := verify.NewHistory(0)
	for _, id := range guests {
		h.Put(0, registerOf(id), "false").OK() // as they are let in
	}
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	nodes := l.Nodes()
	some := func(r *rand.Rand) *cluster.Node {
		mu.Lock()
		defer mu.Unlock()
		return nodes[r.IntN(len(nodes))]
	}
	var work sync.WaitGroup
	for client := range 6 {
		r := rand.New(rand.NewPCG(seed, uint64(client)))
		work.Go(func() {
			for ctx.Err() == nil {
				askRegistry(t.Context(), h, client, r, some(r), guests[r.IntN(len(guests))])
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 99))
	for range 8 {
		time.Sleep(time.Duration(100+r.IntN(150)) * time.Millisecond)
		victim := 1 + r.IntN(5)
		if r.IntN(2) == 0 {
			id := l.Node(victim).ID()
			for _, n := range l.Nodes() {
				if n.ID() != id {
					l.Network().Partition([]consensus.NodeID{id}, []consensus.NodeID{n.ID()})
				}
			}
			time.Sleep(time.Duration(50+r.IntN(150)) * time.Millisecond)
			l.Network().Heal()
			if l.Node(victim).Err() == nil {
				continue
			}
		}
		mu.Lock()
		l.Crash(victim)
		nodes = l.Nodes()
		mu.Unlock()
		require.NoError(t, l.Start(within(t, time.Minute), victim))
		mu.Lock()
		nodes = l.Nodes()
		mu.Unlock()
	}
	stop()
	work.Wait()
	verify.Require(t, h, seed)
	t.Logf("%d operations", h.Len())
}

func registerOf(id consensus.NodeID) string { return strconv.FormatUint(uint64(id), 10) }

// askRegistry does one operation and records how it came out.
func askRegistry(ctx context.Context, h *verify.History, client int, r *rand.Rand, n *cluster.Node, guest consensus.NodeID) {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	key := registerOf(guest)
	if kind := r.IntN(4); kind < 2 {
		set := n.Decommission
		if kind == 1 {
			set = n.Recommission
		}
		call := h.Put(client, key, strconv.FormatBool(kind == 0))
		switch err := set(ctx, guest); {
		case err == nil:
			call.OK()
		case errors.Is(err, consensus.ErrUnknown):
			call.Unknown()
		default:
			call.Failed()
		}
		return
	}
	call := h.Get(client, key)
	s, held := n.Leased()
	if !held {
		var err error
		if s, err = n.Latest(ctx); err != nil {
			call.Failed()
			return
		}
	}
	node, ok := s.Node(guest)
	call.Value(strconv.FormatBool(ok && node.Draining), ok)
}
