package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// views is what a node knows of the cluster: a state that only moves on.
type views struct {
	fs  vfs.FS
	dir string

	state atomic.Pointer[meta.State]
	asOf  atomic.Int64 // when the state was known to be the latest, in Unix nanoseconds; 0: never

	latest atomic.Uint64 // index of the latest change that the leader told of

	mu       sync.Mutex
	changed  chan struct{}                // guarded by mu; closed at the next change
	asking   context.CancelFunc           // guarded by mu; ends the wait for news, nil: none
	behind   uint64                       // guarded by mu; the change that the last heartbeat told of, if it is not known yet
	contacts map[consensus.NodeID]contact // guarded by mu; where nodes are that said so themselves
}

// A contact is where a node was under an epoch, 0 if that is not known.
type contact struct {
	address string
	epoch   uint64
}

func (v *views) init(fs vfs.FS, dir string) {
	v.fs, v.dir, v.changed, v.contacts = fs, dir, make(chan struct{}), map[consensus.NodeID]contact{}
	v.state.Store(new(meta.State))
}

const bookName = "cluster.book"

// load reads what an earlier life of the node knew, to find the others by.
func (v *views) load() error {
	b, err := readFile(v.fs, v.fs.PathJoin(v.dir, bookName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := meta.ParseDelta(b)
	if err != nil {
		return err
	}
	s, err := new(meta.State).Follow(d)
	if err != nil {
		return err
	}
	v.advance(s)
	return nil
}

func (v *views) save() error {
	d := v.state.Load().Whole()
	return writeFile(v.fs, v.dir, bookName, d.Append(nil))
}

// confirm notes that the state was the latest at a moment.
func (v *views) confirm(at time.Time) {
	for now := at.UnixNano(); ; {
		old := v.asOf.Load()
		if old >= now || v.asOf.CompareAndSwap(old, now) {
			return
		}
	}
}

// keepsUp says whether a state of the node's own replica of the meta group is as far
// as the node and the leader are: a replica may be cut off, or not be filled yet.
func (v *views) keepsUp(s *meta.State) bool {
	return s.Index >= v.state.Load().Index && s.Index >= v.latest.Load()
}

// hear notes which change the leader knew of.
func (v *views) hear(changed uint64) {
	for {
		old := v.latest.Load()
		if old >= changed || v.latest.CompareAndSwap(old, changed) {
			return
		}
	}
}

// lags notes a heartbeat's word of the latest change. If an earlier heartbeat told of
// it too, and it is still not known, whoever is asked for news does not answer: it is
// asked no longer.
func (v *views) lags(changed uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.state.Load().Index >= changed:
		v.behind = 0
	case v.behind == 0:
		v.behind = changed
	case v.state.Load().Index < v.behind && v.asking != nil:
		v.asking()
		v.behind = 0
	}
}

// advance takes in a state, unless a later one is known.
func (v *views) advance(s *meta.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.Index < v.state.Load().Index {
		return
	}
	v.state.Store(s)
	close(v.changed)
	v.changed = make(chan struct{})
}

// follow takes in a delta from what is known.
func (v *views) follow(d meta.Delta) error {
	from := v.state.Load()
	if d.Index < from.Index || d.Empty() && d.Index == from.Index {
		return nil
	}
	s, err := from.Follow(d)
	if err != nil {
		return err
	}
	v.advance(s)
	return nil
}

// next returns a channel that is closed at the next change.
func (v *views) next() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// meet notes where a node is, unless it was somewhere else under a later epoch.
func (v *views) meet(id consensus.NodeID, c contact) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if old, ok := v.contacts[id]; ok && old.epoch > c.epoch || len(v.contacts) >= meta.MaxNodes {
		return
	}
	v.contacts[id] = c
}

// View returns what this node knows of the cluster, without asking anybody, and how
// long ago that was known to be the latest; negative if it never was.
func (n *Node) View() (s *meta.State, age time.Duration) {
	s, at := n.views.state.Load(), n.views.asOf.Load()
	if at == 0 {
		return s, -1
	}
	return s, time.Since(time.Unix(0, at))
}

// resolve finds a node's address, for the wire. A node that has moved says so itself
// before the cluster can: its vote may be what it takes to make that known.
func (n *Node) resolve(id consensus.NodeID) (string, error) {
	n.views.mu.Lock()
	c, met := n.views.contacts[id]
	n.views.mu.Unlock()
	if node, ok := n.views.state.Load().Node(id); ok && node.Address != "" && node.Epoch >= c.epoch {
		return node.Address, nil
	}
	if met {
		return c.address, nil
	}
	return "", fmt.Errorf("cluster: node %d is not known here", id)
}

// Await returns when what this node knows of the cluster satisfies ok, with the
// state that does.
func (n *Node) Await(ctx context.Context, ok func(*meta.State) bool) (*meta.State, error) {
	for {
		changed := n.views.next()
		if s := n.views.state.Load(); ok(s) {
			return s, nil
		}
		select {
		case <-changed:
		case <-n.life.Done():
			return nil, fmt.Errorf("cluster: node %d: %w", n.id.Node, consensus.ErrClosed)
		case <-ctx.Done():
			return nil, fmt.Errorf("cluster: node %d: %w", n.id.Node, context.Cause(ctx))
		}
	}
}

const serviceWatch = "cluster.watch"

// The pace of watching: how long an answer may wait for news, and how long a node
// rests after an error.
const (
	watchFor   = time.Second
	watchPause = 20 * time.Millisecond
	// gather is how long news wait for more of them, so that a storm of changes is
	// not as many rounds.
	gather = 2 * time.Millisecond
)

// watch keeps the node's view up to date.
func (n *Node) watch() {
	var saved time.Time
	var kept uint64 // index of what was saved
	for i := 0; n.life.Err() == nil; i++ {
		var err error
		if m, ok := n.metaMachine(); ok && n.views.keepsUp(m.State()) {
			err = n.watchOwn(m)
		} else {
			err = n.watchOther(i)
		}
		if n.views.state.Load().Removed(n.id.Node) {
			n.fail(fmt.Errorf("cluster: node %d: %w", n.id.Node, meta.ErrRemoved))
			return
		}
		if err != nil {
			n.logger.Debug("cluster: watch", "err", err)
			pause(n.life, watchPause)
		}
		if index := n.views.state.Load().Index; index != kept && time.Since(saved) > time.Second {
			saved, kept = time.Now(), index
			if err := n.views.save(); err != nil {
				n.logger.Warn("cluster: what is known of the cluster cannot be kept", "err", err)
			}
		}
		pause(n.life, gather)
	}
}

// metaMachine returns the machine of the meta group, if this node has a replica.
func (n *Node) metaMachine() (*meta.Machine, bool) {
	sm, err := n.host.Machine(metaGroup)
	if err != nil {
		return nil, false
	}
	m, ok := sm.(*meta.Machine)
	return m, ok && m.State().Cluster != 0 // or it was never told anything
}

// watchOwn takes in what the node's own replica of the meta group knows, and waits
// for news.
func (n *Node) watchOwn(m *meta.Machine) error {
	changed := m.Changed()
	if s := m.State(); s.Index > n.views.state.Load().Index {
		n.views.advance(s)
	}
	wait(n.life, changed, n.o.Interval) // the replica may be gone, and then nothing changes
	return nil
}

// watchOther asks another node for news.
func (n *Node) watchOther(i int) error {
	to, ok := n.metaNode(i)
	if !ok || to == n.id.Node {
		return errors.New("no other member of the meta group is known")
	}
	ctx, cancel := context.WithTimeout(n.life, 2*watchFor)
	defer cancel()
	n.views.ask(cancel)
	defer n.views.ask(nil)
	since := n.views.state.Load().Index
	answer, err := n.net.Call(ctx, to, serviceWatch, binary.AppendUvarint(nil, since))
	if err != nil {
		n.leader.CompareAndSwap(uint64(to), 0)
		return err
	}
	d, err := meta.ParseDelta(answer)
	if err != nil {
		return err
	}
	return n.views.follow(d)
}

func (v *views) ask(stop context.CancelFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asking = stop
}

// serveWatch answers with what changed since an index, when something did or after
// watchFor.
func (n *Node) serveWatch(ctx context.Context, _ consensus.NodeID, req []byte) ([]byte, error) {
	since, k := binary.Uvarint(req)
	if k != len(req) || k <= 0 {
		return nil, fmt.Errorf("cluster: %s: malformed request of %d bytes", serviceWatch, len(req))
	}
	for began := time.Now(); ; {
		m, ok := n.metaMachine()
		if !ok || m.State().Index < since {
			d := n.views.state.Load().Whole()
			if d.Index <= since {
				return nil, fmt.Errorf("cluster: %s: node %d has no replica of the meta group", serviceWatch, n.id.Node)
			}
			return d.Append(nil), nil
		}
		changed := m.Changed()
		d := m.Since(since)
		left := watchFor - time.Since(began)
		if m.State().Index >= since && !d.Empty() || left <= 0 {
			return d.Append(nil), nil
		}
		wait(ctx, changed, min(left, n.o.Interval)) // likewise
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// wait waits for c, at most for d.
func wait(ctx context.Context, c <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	case <-ctx.Done():
	}
}

func pause(ctx context.Context, d time.Duration) { wait(ctx, nil, d) }
