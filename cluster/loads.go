package cluster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/consensus"
)

// Loads go to the leader of the meta group with heartbeats and stay in its memory.
// Each is kept and sent as the exponent of a step, so that what hardly changes costs
// nothing to send.

// A gauge is a load on a logarithmic scale: 0 is none, and each step is a tenth more.
type gauge uint16

const gaugeStep = 1.1

func gaugeOf(v float64) gauge {
	if v < 1 {
		return 0
	}
	return gauge(min(1+math.Round(math.Log(v)/math.Log(gaugeStep)), 1000))
}

func (g gauge) value() float64 {
	if g == 0 {
		return 0
	}
	return math.Pow(gaugeStep, float64(g-1))
}

// A shardLoad is what one replica of a shard does.
type shardLoad struct {
	leads bool
	// stopped is its id if it stopped after an error: it does nothing, and must be
	// replaced. 0: it has not.
	stopped consensus.ReplicaID
	ops     gauge // operations a second, of the leader
	cpu     gauge // microseconds of a processor a second
	bytes   gauge
}

func (l shardLoad) near(o shardLoad) bool {
	same := func(a, b gauge) bool { return a == b || a > 0 && b > 0 && max(a, b)-min(a, b) < 2 }
	return l.leads == o.leads && l.stopped == o.stopped && same(l.ops, o.ops) && same(l.cpu, o.cpu) && same(l.bytes, o.bytes)
}

// A meter follows what the replicas of a node do.
type meter struct {
	n *Node

	mu     sync.Mutex
	at     time.Time                      // guarded by mu; of the latest look
	groups map[consensus.GroupID]*running // guarded by mu
	news   bool                           // guarded by mu; since the latest frame was made

	// What the leader of the meta group has of it: sent, when it has confirmed it.
	to      consensus.NodeID           // guarded by mu
	number  uint64                     // guarded by mu; of the frame that it confirmed
	has     map[meta.ShardID]shardLoad // guarded by mu
	pending bool                       // guarded by mu; a frame is under way
}

// running is a replica's load and the counters that it was made of.
type running struct {
	commands, ops uint64
	worked        time.Duration
	leads, fresh  bool
	stopped       consensus.ReplicaID
	rate, cpu     float64
	bytes         int64
}

// sized is a store that knows its size.
type sized interface{ SizeBytes() int64 }

// look takes in what the replicas have done since the last look.
func (m *meter) look(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups == nil {
		m.groups = map[consensus.GroupID]*running{}
	}
	took := now.Sub(m.at).Seconds()
	m.at, m.news = now, true
	share := 1 - math.Exp(-took/m.n.o.LoadWindow.Seconds())
	for _, g := range m.groups {
		g.fresh = false
	}
	m.n.host.Loads(func(id consensus.GroupID, l consensus.Load) {
		r, ok := m.groups[id]
		if !ok {
			r = &running{commands: l.Commands, worked: l.Worked}
			m.groups[id] = r
		}
		ops := uint64(0)
		if at, err := m.n.Replica(meta.ShardID(id)); err == nil {
			ops = at.m.Ops()
			if s, ok := at.Store().(sized); ok {
				r.bytes = s.SizeBytes()
			}
			if !ok {
				r.ops = ops
			}
		}
		// A replica that was started anew counts from nothing.
		if l.Commands >= r.commands && l.Worked >= r.worked && ops >= r.ops {
			r.rate += share * (float64(ops-r.ops)/took - r.rate)
			r.cpu += share * ((l.Worked-r.worked).Seconds()/took*1e6 - r.cpu)
		}
		r.commands, r.worked, r.ops, r.leads, r.fresh = l.Commands, l.Worked, ops, l.Leads, true
		r.stopped = l.Stopped
	})
	maps.DeleteFunc(m.groups, func(_ consensus.GroupID, r *running) bool { return !r.fresh })
}

// loads are those of the latest look.
func (m *meter) loads() map[meta.ShardID]shardLoad {
	list := make(map[meta.ShardID]shardLoad, len(m.groups))
	for id, r := range m.groups {
		l := shardLoad{leads: r.leads, stopped: r.stopped, cpu: gaugeOf(r.cpu), bytes: gaugeOf(float64(r.bytes))}
		if r.leads {
			l.ops = gaugeOf(r.rate)
		}
		list[meta.ShardID(id)] = l
	}
	return list
}

// rates are the loads of the latest look, as they were measured.
func (m *meter) rates() map[meta.ShardID]selfShard {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make(map[meta.ShardID]selfShard, len(m.groups))
	for id, r := range m.groups {
		list[meta.ShardID(id)] = selfShard{Leads: r.leads, Stopped: r.stopped, Ops: r.rate, CPU: r.cpu / 1e6, Bytes: r.bytes}
	}
	return list
}

// A loadFrame leads from what a node has confirmed to what is.
type loadFrame struct {
	from, number uint64 // from 0: from nothing
	changed      map[meta.ShardID]shardLoad
	gone         []meta.ShardID
	next         map[meta.ShardID]shardLoad // what it leads to, at the sender
}

// frame returns what the leader of the meta group has yet to hear, nil if that is
// nothing or it is on its way.
func (m *meter) frame(to consensus.NodeID) *loadFrame {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.frameOf(to, m.loads)
}

// frameOf is frame of what loads returns. mu must be held.
func (m *meter) frameOf(to consensus.NodeID, loads func() map[meta.ShardID]shardLoad) *loadFrame {
	if to != m.to {
		m.to, m.number, m.has, m.pending = to, 0, nil, false
	}
	if m.pending || m.number != 0 && !m.news {
		return nil
	}
	m.news = false
	now := loads()
	f := &loadFrame{from: m.number, number: m.number + 1, changed: map[meta.ShardID]shardLoad{}}
	next := make(map[meta.ShardID]shardLoad, len(now))
	for id, l := range now {
		if old, ok := m.has[id]; ok && l.near(old) {
			next[id] = old
			continue
		}
		f.changed[id], next[id] = l, l
	}
	for id := range m.has {
		if _, ok := now[id]; !ok {
			f.gone = append(f.gone, id)
		}
	}
	if f.from != 0 && len(f.changed)+len(f.gone) == 0 {
		return nil
	}
	m.pending, f.next = true, next
	return f
}

// sent notes what came of a frame.
func (m *meter) sent(to consensus.NodeID, f *loadFrame, verdict byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if to != m.to || f.from != m.number {
		return
	}
	m.pending = false
	switch verdict {
	case loadsTaken:
		m.number, m.has = f.number, f.next
	case loadsLost:
		m.number, m.has = 0, nil
	}
}

// What the leader of the meta group says of a frame of loads.
const (
	loadsNone  = iota // there was none, or nobody took it
	loadsTaken        // and it is known now
	loadsLost         // it does not lead on from what is known: all is to be sent
)

func (f *loadFrame) append(b []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, f.from), f.number)
	ids := slices.Sorted(maps.Keys(f.changed))
	b = binary.AppendUvarint(b, uint64(len(ids)))
	last := meta.ShardID(0)
	for _, id := range ids {
		l := f.changed[id]
		what := uint64(l.stopped) << 1
		if l.leads {
			what |= 1
		}
		for _, v := range []uint64{uint64(id - last), what, uint64(l.ops), uint64(l.cpu), uint64(l.bytes)} {
			b = binary.AppendUvarint(b, v)
		}
		last = id
	}
	b = binary.AppendUvarint(b, uint64(len(f.gone)))
	for _, id := range f.gone {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

func readLoadFrame(b []byte) (*loadFrame, error) {
	bad := false
	next := func() uint64 {
		v, k := binary.Uvarint(b)
		if bad = bad || k <= 0; bad {
			return 0
		}
		b = b[k:]
		return v
	}
	f := &loadFrame{from: next(), number: next(), changed: map[meta.ShardID]shardLoad{}}
	id := meta.ShardID(0)
	for n := next(); n > 0 && !bad; n-- {
		id += meta.ShardID(next())
		what := next() // who has stopped, and whether it leads
		l := shardLoad{leads: what&1 != 0, stopped: consensus.ReplicaID(what >> 1)}
		for _, g := range []*gauge{&l.ops, &l.cpu, &l.bytes} {
			v := next()
			bad = bad || v > 1000
			*g = gauge(v)
		}
		f.changed[id] = l
	}
	for n := next(); n > 0 && !bad; n-- {
		f.gone = append(f.gone, meta.ShardID(next()))
	}
	if bad || len(b) > 0 || f.number <= f.from {
		return nil, fmt.Errorf("cluster: frame of loads is malformed, %d bytes before its end", len(b))
	}
	return f, nil
}

// A loadTable is what the leader of the meta group has heard of loads.
type loadTable struct {
	mu    sync.Mutex
	nodes map[consensus.NodeID]*nodeLoads // guarded by mu
}

type nodeLoads struct {
	epoch, number uint64
	shards        map[meta.ShardID]shardLoad
}

// take takes a frame in, and says what came of it.
func (t *loadTable) take(from consensus.NodeID, epoch uint64, f *loadFrame) byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[from]
	switch {
	case f.from == 0:
		n = &nodeLoads{epoch: epoch, shards: map[meta.ShardID]shardLoad{}}
		if t.nodes == nil {
			t.nodes = map[consensus.NodeID]*nodeLoads{}
		}
		t.nodes[from] = n
	case n == nil || n.epoch != epoch || n.number != f.from:
		return loadsLost
	}
	n.number = f.number
	maps.Copy(n.shards, f.changed)
	for _, id := range f.gone {
		delete(n.shards, id)
	}
	return loadsTaken
}

// forget forgets all: the node does not lead the meta group any more.
func (t *loadTable) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.nodes)
}

// stopped says whether a replica of a shard has stopped after an error.
func (t *loadTable) stopped(id meta.ShardID, m consensus.Member) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok := t.nodes[m.Node]
	return ok && m.Replica != 0 && at.shards[id].stopped == m.Replica
}

// Below these a node's mean load is not worth a move.
const (
	worthOps   = 100      // a second
	worthCPU   = 0.01     // of a processor
	worthBytes = 16 << 20 // on a node
)

// known says whether every live node was heard of, and most leaders: what is known of
// a part would look uneven.
func (t *loadTable) known(s *meta.State) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	led := 0
	for _, n := range s.Nodes() {
		at, ok := t.nodes[n.ID]
		if !ok && n.Condition == meta.Live {
			return false
		}
		if ok {
			for _, l := range at.shards {
				if l.leads {
					led++
				}
			}
		}
	}
	return led >= len(s.Shards())*9/10
}

// weigh puts loads and leaders into p.
func (t *loadTable) weigh(p *placement.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sum placement.Load
	for i := range p.Shards {
		sh := &p.Shards[i]
		sh.Leader, sh.Load = t.shard(meta.ShardID(sh.ID), sh.Replicas)
		copies := float64(len(sh.Replicas))
		sum.Ops += sh.Load.Ops
		sum.LeaderCPU += sh.Load.LeaderCPU + (copies-1)*sh.Load.FollowerCPU
		sum.Bytes += copies * sh.Load.Bytes
	}
	nodes := float64(max(1, len(p.Nodes)))
	for i := range p.Shards {
		l := &p.Shards[i].Load
		if sum.Ops < worthOps*nodes {
			l.Ops = 0
		}
		if sum.LeaderCPU < worthCPU*nodes {
			l.LeaderCPU, l.FollowerCPU = 0, 0
		}
		if sum.Bytes < worthBytes*nodes {
			l.Bytes = 0
		}
	}
}

// shard is what is known of a shard with replicas on some nodes. mu must be held.
func (t *loadTable) shard(id meta.ShardID, on []placement.NodeID) (leader placement.NodeID, l placement.Load) {
	followers := 0
	for _, at := range on {
		n := t.nodes[consensus.NodeID(at)]
		if n == nil {
			continue
		}
		r, ok := n.shards[id]
		if !ok {
			continue
		}
		l.Bytes = max(l.Bytes, r.bytes.value())
		if r.leads && id != meta.MetaShard { // which leads itself
			leader, l.Ops, l.LeaderCPU = at, r.ops.value(), r.cpu.value()/1e6
			continue
		}
		followers++
		l.FollowerCPU += r.cpu.value() / 1e6
	}
	if followers > 0 {
		l.FollowerCPU /= float64(followers)
	}
	return leader, l
}
