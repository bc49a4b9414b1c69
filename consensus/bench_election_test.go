package consensus_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

// lanLease is the longest promise to a leader in BenchmarkElection.
const lanLease = 200 * time.Millisecond

// lan are timings for nodes in one building.
func lan(o *consensus.Options) {
	o.TickInterval, o.HeartbeatTicks, o.LeaseDuration = 50*time.Millisecond, 1, lanLease
}

// BenchmarkElection asks how long a group is without a leader: from the last
// reply of the old one to the first of the new. Its parts are detect-ns, until
// a replica suspects the leader or campaigns; vote-ns, until another leads; and
// ready-ns, until that one has answered a command. Heartbeats are 50 ms apart,
// promises last 200 ms. A transfer is asked for as soon as the last reply is in;
// a partition cuts the leader off from both other nodes.
//
//	go test -run='^$' -bench=Election -count=10 ./consensus
func BenchmarkElection(b *testing.B) {
	for _, cause := range []string{"crash", "transfer", "partition"} {
		b.Run(harness.Name("cause", cause, "lease", lanLease), func(b *testing.B) {
			log := &electionLog{led: make(chan struct{}, 1)}
			c := bootBench(b, setup{disk: "none", net: "sim", options: func(o *consensus.Options) {
				lan(o)
				o.Events = log.note
			}})
			c.events(b, harness.Spec{}, 30*time.Second, func(ctx context.Context, l *consensus.Host) (harness.Event, error) {
				return c.election(ctx, l, log, cause)
			})
		})
	}
}

// election takes the leader away once and puts everything back afterwards.
func (c *cluster) election(ctx context.Context, l *consensus.Host, log *electionLog, cause string) (harness.Event, error) {
	data, rest := putOf("k", 128), c.others(l)
	if _, err := l.Propose(ctx, 1, consensus.Command{Data: data}); err != nil {
		return harness.Event{}, err
	}
	start := time.Now()
	log.begin(l.Node(), start)
	defer log.end()
	transferred := make(chan error, 1)
	transferred <- nil
	switch cause {
	case "crash":
		l.Crash()
	case "partition":
		c.wire.Partition([]consensus.NodeID{l.Node()}, rest)
	case "transfer":
		<-transferred
		to := c.replicaOn(rest[0])
		go func() { transferred <- l.Transfer(ctx, 1, to) }()
	}
	if err := c.firstReply(ctx, log, rest, data); err != nil {
		return harness.Event{}, err
	}
	took := time.Since(start)
	parts, err := log.parts(took)
	if err != nil {
		return harness.Event{}, err
	}
	switch cause {
	case "crash":
		c.reopen(int(l.Node() - 1))
		// A node votes again when all it may have promised before has ended.
		time.Sleep(lanLease)
	case "partition":
		c.wire.Heal()
	}
	return harness.Event{Took: took, Values: parts}, <-transferred
}

// replicaOn returns the replica of group 1 on a node.
func (c *cluster) replicaOn(n consensus.NodeID) consensus.ReplicaID {
	for _, m := range c.members(1) {
		if m.Node == n {
			return m.Replica
		}
	}
	return 0
}

// firstReply waits for a new leader and its first answer.
func (c *cluster) firstReply(ctx context.Context, log *electionLog, nodes []consensus.NodeID, data []byte) error {
	select {
	case <-log.led:
	case <-ctx.Done():
		return fmt.Errorf("no leader among nodes %v: %w", nodes, ctx.Err())
	}
	_, err := c.anyLeader(ctx, nodes, data)
	return err
}

// An electionLog keeps when each kind of event happened first.
type electionLog struct {
	led chan struct{} // holds a token when another replica leads

	mu    sync.Mutex
	old   consensus.NodeID // guarded by mu; its own events do not count
	start time.Time        // guarded by mu; zero: nothing counts
	first map[consensus.EventKind]time.Duration
}

// begin starts an election without the leader on node old. The leader of an
// election that nobody waited for any more has left its token: it goes.
func (e *electionLog) begin(old consensus.NodeID, start time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.led:
	default:
	}
	e.old, e.start, e.first = old, start, map[consensus.EventKind]time.Duration{}
}

// end makes nothing count until the next begin.
func (e *electionLog) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.start = time.Time{}
}

func (e *electionLog) note(ev consensus.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.start.IsZero() || ev.Node == e.old {
		return
	}
	if _, ok := e.first[ev.Kind]; ok {
		return
	}
	e.first[ev.Kind] = time.Since(e.start)
	if ev.Kind == consensus.EventLeader {
		select {
		case e.led <- struct{}{}:
		default: // a hook holds up its node
		}
	}
}

// parts divides an election that took so long.
func (e *electionLog) parts(took time.Duration) (map[string]float64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	detect, ok := e.first[consensus.EventCampaign]
	if !ok {
		return nil, fmt.Errorf("a leader without a campaign: %v", e.first)
	}
	if d, ok := e.first[consensus.EventSuspect]; ok {
		detect = min(detect, d)
	}
	led := e.first[consensus.EventLeader]
	return map[string]float64{
		"detect-ns": float64(detect),
		"vote-ns":   float64(led - detect),
		"ready-ns":  float64(took - led),
	}, nil
}
