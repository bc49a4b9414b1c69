package meta

import "github.com/phantomdb/phantomdb/consensus"

// Whole returns the delta from nothing to s.
func (s *State) Whole() Delta {
	d := Delta{Whole: true, Index: s.Index}
	add := func(kind byte, id uint64, value []byte) {
		d.changes = append(d.changes, change{key: recordKey(kind, id), value: value})
	}
	add(recordCluster, 0, s.appendCluster(nil))
	s.nodes.Scan(func(id consensus.NodeID, n *Node) bool {
		add(recordNode, uint64(id), n.append(nil))
		return true
	})
	s.shards.Scan(func(id ShardID, sh *Shard) bool {
		add(recordShard, uint64(id), sh.append(nil))
		return true
	})
	s.moves.Scan(func(id ShardID, m *Move) bool {
		add(recordMove, uint64(id), m.append(nil))
		return true
	})
	return d
}
