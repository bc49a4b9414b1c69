package consensus

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"
)

// config is a group's configuration as of an applied index: Raft's ConfState,
// the node of each member, and the highest replica id ever used. It is one of
// the rows that the machine keeps.
type config struct {
	conf    *pb.ConfState
	members []Member // sorted by replica
	highest ReplicaID
	// request is the id of the last change that was applied, see Change, and
	// index that of its entry.
	request, index uint64
}

const configVersion = 2

func initialConfig(g GroupID, node NodeID, id ReplicaID, init Initial) (*config, error) {
	if init.Fork != nil {
		if len(init.Voters) > 0 {
			return nil, fmt.Errorf("consensus: create group %d: both Voters and Fork, expected one of them", g)
		}
		return init.Fork.config(g, node, id)
	}
	c := &config{conf: &pb.ConfState{}}
	if len(init.Voters) > 0 {
		c.index = initialIndex
	}
	self := len(init.Voters) == 0
	for _, m := range init.Voters {
		if m.Replica == 0 || m.Node == 0 || c.node(m.Replica) != 0 {
			return nil, fmt.Errorf("consensus: create group %d: voter %d on node %d: expected distinct ids above 0", g, m.Replica, m.Node)
		}
		for _, o := range c.members {
			if o.Node == m.Node {
				return nil, fmt.Errorf("consensus: create group %d: voters %d and %d share node %d", g, o.Replica, m.Replica, m.Node)
			}
		}
		self = self || m.Replica == id && m.Node == node
		c.add(m)
		c.conf.Voters = append(c.conf.Voters, uint64(m.Replica))
	}
	if !self {
		return nil, fmt.Errorf("consensus: create group %d: replica %d on node %d is not among the voters %v", g, id, node, init.Voters)
	}
	slices.Sort(c.conf.Voters)
	return c, nil
}

// node returns where a member lives, 0 if it is no member.
func (c *config) node(id ReplicaID) NodeID {
	for _, m := range c.members {
		if m.Replica == id {
			return m.Node
		}
	}
	return 0
}

func (c *config) add(m Member) {
	i, found := slices.BinarySearchFunc(c.members, m, func(a, b Member) int { return cmp.Compare(a.Replica, b.Replica) })
	if found {
		c.members[i] = m
	} else {
		c.members = slices.Insert(c.members, i, m)
	}
	c.highest = max(c.highest, m.Replica)
}

// keepMembers forgets the nodes of replicas that are in the configuration no
// more.
func (c *config) keepMembers() {
	c.members = slices.DeleteFunc(c.members, func(m Member) bool { return !c.contains(m.Replica) })
}

func (c *config) contains(id ReplicaID) bool {
	v := uint64(id)
	s := c.conf
	return slices.Contains(s.GetVoters(), v) || slices.Contains(s.GetVotersOutgoing(), v) ||
		slices.Contains(s.GetLearners(), v) || slices.Contains(s.GetLearnersNext(), v)
}

func (c *config) isVoter(id ReplicaID) bool {
	return slices.Contains(c.conf.GetVoters(), uint64(id)) || slices.Contains(c.conf.GetVotersOutgoing(), uint64(id))
}

func (c *config) joint() bool { return len(c.conf.GetVotersOutgoing()) > 0 }

// clone returns a copy whose members can be changed. The ConfState is shared:
// it is replaced, never changed.
func (c *config) clone() *config {
	d := *c
	d.members = slices.Clone(c.members)
	return &d
}

func (c *config) encode() []byte {
	b := []byte{configVersion}
	for _, ids := range [][]uint64{
		c.conf.GetVoters(), c.conf.GetLearners(), c.conf.GetVotersOutgoing(), c.conf.GetLearnersNext(),
	} {
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, id)
		}
	}
	auto := byte(0)
	if c.conf.GetAutoLeave() {
		auto = 1
	}
	b = append(b, auto)
	b = binary.AppendUvarint(b, uint64(c.highest))
	b = binary.AppendUvarint(b, c.request)
	b = binary.AppendUvarint(b, c.index)
	b = appendMembers(b, c.members)
	return b
}

func appendMembers(b []byte, members []Member) []byte {
	b = binary.AppendUvarint(b, uint64(len(members)))
	for _, m := range members {
		b = binary.AppendUvarint(b, uint64(m.Replica))
		b = binary.AppendUvarint(b, uint64(m.Node))
	}
	return b
}

func (d *decoder) members() []Member {
	var members []Member
	for range d.count() {
		members = append(members, Member{Replica: ReplicaID(d.uvarint()), Node: NodeID(d.uvarint())})
	}
	return members
}

func decodeConfig(b []byte) (*config, error) {
	d := decoder{buf: b}
	if v := d.byte(); v != configVersion {
		return nil, fmt.Errorf("configuration of version %d, expected %d", v, configVersion)
	}
	c := &config{conf: &pb.ConfState{}}
	for _, ids := range []*[]uint64{&c.conf.Voters, &c.conf.Learners, &c.conf.VotersOutgoing, &c.conf.LearnersNext} {
		for range d.count() {
			*ids = append(*ids, d.uvarint())
		}
	}
	if d.byte() == 1 {
		c.conf.AutoLeave = new(true)
	}
	c.highest, c.request, c.index = ReplicaID(d.uvarint()), d.uvarint(), d.uvarint()
	c.members = d.members()
	if !d.done() {
		return nil, fmt.Errorf("malformed configuration of %d bytes", len(b))
	}
	return c, nil
}

// maxSharedConfigs bounds the configurations that replicas share.
const maxSharedConfigs = 1024

// A configCache gives equal configurations one memory: ten thousand groups on
// the same nodes have but a few. It is safe for concurrent use.
type configCache struct {
	mu      sync.Mutex
	decoded map[string]*config // guarded by mu
}

func (c *configCache) decode(b []byte) (*config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conf := c.decoded[string(b)]; conf != nil {
		return conf, nil
	}
	conf, err := decodeConfig(b)
	if err != nil {
		return nil, err
	}
	if c.decoded == nil || len(c.decoded) >= maxSharedConfigs {
		c.decoded = map[string]*config{}
	}
	c.decoded[string(b)] = conf
	return conf, nil
}
