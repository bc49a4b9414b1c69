package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

const serviceBeat = "cluster.beat"

const beatVersion = 1

// A beat is what a node tells the leader of the meta group in each interval.
type beat struct {
	epoch uint64
	lag   time.Duration // how much later than it should have this was sent
	loads *loadFrame    // nil: nothing new
}

func (b beat) encode() []byte {
	data := binary.AppendUvarint(binary.AppendUvarint([]byte{beatVersion}, b.epoch), uint64(b.lag))
	if b.loads != nil {
		data = b.loads.append(data)
	}
	return data
}

func decodeBeat(data []byte) (beat, error) {
	if len(data) == 0 || data[0] != beatVersion {
		return beat{}, fmt.Errorf("cluster: heartbeat of version %x, expected %d", data[:min(1, len(data))], beatVersion)
	}
	epoch, k := binary.Uvarint(data[1:])
	lag, j := binary.Uvarint(data[1+max(k, 0):])
	if k <= 0 || j <= 0 || lag > uint64(time.Hour) {
		return beat{}, fmt.Errorf("cluster: heartbeat of %d bytes is malformed", len(data))
	}
	b := beat{epoch: epoch, lag: time.Duration(lag)}
	var err error
	if rest := data[1+k+j:]; len(rest) > 0 {
		b.loads, err = readLoadFrame(rest)
	}
	return b, err
}

// A pulse is the answer: who leads, if it is another, and of which change the node
// should know by now. The node was heard under its epoch, or must not go on.
type pulse struct {
	leader  consensus.NodeID // 0: the one that answers
	changed uint64           // index of the latest change of the cluster
	verdict byte
	loads   byte // what came of the frame of loads
}

// What the leader of the meta group thinks of a heartbeat.
const (
	pulseWell    = iota
	pulseStrange // not watched, or not yet
	pulseDead    // declared dead under this epoch, or ran under a later one
	pulseUnsure  // well, but by now another may lead
)

func (p pulse) encode() []byte {
	b := binary.AppendUvarint([]byte{beatVersion, p.verdict, p.loads}, uint64(p.leader))
	return binary.AppendUvarint(b, p.changed)
}

func decodePulse(data []byte) (pulse, error) {
	if len(data) < 3 || data[0] != beatVersion {
		return pulse{}, fmt.Errorf("cluster: answer to a heartbeat, %x, is malformed", data)
	}
	leader, k := binary.Uvarint(data[3:])
	changed, j := binary.Uvarint(data[3+max(k, 0):])
	if k <= 0 || j <= 0 || 3+k+j != len(data) {
		return pulse{}, fmt.Errorf("cluster: answer to a heartbeat, %x, is malformed", data)
	}
	return pulse{consensus.NodeID(leader), changed, data[1], data[2]}, nil
}

// heart sends a heartbeat to the leader of the meta group in every interval, and
// learns by the answer whether this node's view is up to date. A heartbeat that gets
// no answer is not waited for.
func (n *Node) heart() {
	t := time.NewTicker(n.o.Interval)
	defer t.Stop()
	room := make(chan struct{}, maxBeats)
	for i, last := 0, time.Now(); ; i++ {
		select {
		case <-t.C:
		case <-n.life.Done():
			return
		}
		now := time.Now()
		lag := max(0, now.Sub(last)-n.o.Interval)
		last = now
		if looked := now.Sub(n.meter.at); looked >= min(lookLoads, n.o.LoadWindow/4) {
			n.meter.look(now)
		}
		to, ok := n.metaNode(i)
		if !ok || n.host.Stats().Stalled {
			continue // a node that stands still does not vouch for itself
		}
		select {
		case room <- struct{}{}:
		default:
			continue // that many are under way to nobody
		}
		n.work.Go(func() {
			n.beat(to, beat{epoch: n.host.Epoch(), lag: lag, loads: n.meter.frame(to)})
			<-room
		})
	}
}

// lookLoads is how often a node looks at its loads, at most.
const lookLoads = time.Second

// maxBeats bounds the heartbeats that wait for an answer.
const maxBeats = 4

func (n *Node) beat(to consensus.NodeID, b beat) {
	began := time.Now()
	var p pulse
	if b.loads != nil {
		defer func() { n.meter.sent(to, b.loads, p.loads) }()
	}
	if to == n.id.Node {
		p = n.sentinel.hear(to, b)
	} else {
		ctx, cancel := context.WithTimeout(n.life, max(2*n.o.Interval, tryFor/2))
		defer cancel()
		data, err := n.net.Call(ctx, to, serviceBeat, b.encode())
		if err == nil {
			p, err = decodePulse(data)
		}
		if err != nil {
			n.leader.CompareAndSwap(uint64(to), 0)
			return
		}
	}
	if p.leader != 0 {
		n.leader.Store(uint64(p.leader))
		return
	}
	switch p.verdict {
	case pulseDead:
		n.fail(fmt.Errorf("cluster: node %d under epoch %d: %w: it was declared dead, and must start again", n.id.Node, b.epoch, meta.ErrEpoch))
	case pulseWell, pulseUnsure:
		n.leader.Store(uint64(to))
		n.views.hear(p.changed)
		n.views.lags(p.changed)
		if p.verdict == pulseWell && n.views.state.Load().Index >= p.changed {
			n.views.confirm(began)
		}
	}
}

func (n *Node) serveBeat(_ context.Context, from consensus.NodeID, req []byte) ([]byte, error) {
	b, err := decodeBeat(req)
	if err != nil {
		return nil, err
	}
	return n.sentinel.hear(from, b).encode(), nil
}
