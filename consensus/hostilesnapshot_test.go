package consensus_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// foreignView is a view, at an index that node 3 has not, of a machine that
// holds the given configuration.
func (m *manual) foreignView(conf *pb.ConfState) consensus.View {
	sm, err := kv.New(kv.Options{FS: vfs.NewMem(), Dir: "foreign"})
	require.NoError(m.tb, err)
	_, err = sm.Open()
	require.NoError(m.tb, err)
	b := &consensus.Batch{Index: m.status(3).Last + 100, Term: m.status(3).Term, Rows: []consensus.Row{consensus.ConfigRow(conf)}}
	require.NoError(m.tb, sm.Apply(b, nil))
	view, err := sm.View()
	require.NoError(m.tb, err)
	m.tb.Cleanup(func() { _ = sm.Close() })
	return view
}

// The header of a snapshot is a Raft message that comes another way: what no
// replica could have sent is refused there, too, and harms neither reads nor
// elections later on.
func TestMalformedSnapshotHeaders(t *testing.T) {
	for name, fill := range map[string]func(*pb.Message){
		"from nobody":           func(m *pb.Message) { m.From = nil },
		"from itself":           func(m *pb.Message) { m.From = m.To },
		"from its disk":         func(m *pb.Message) { m.From = new(raft.LocalAppendThread) },
		"from its machine":      func(m *pb.Message) { m.From = new(raft.LocalApplyThread) },
		"without a term":        func(m *pb.Message) { m.Term = nil },
		"with entries":          func(m *pb.Message) { m.Entries = []*pb.Entry{{}} },
		"a term out of reach":   func(m *pb.Message) { m.Term = new(m.GetTerm() + 1<<33) },
		"the last of all terms": func(m *pb.Message) { m.Term = new(uint64(1<<64 - 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{host: shortLog}, func(t *testing.T, m *manual) {
				m.elect(1)
				m.crash(2)
				p := m.puppet(2)
				before, refused := m.status(3), m.host(3).Stats().Refused
				conf := &pb.ConfState{Voters: []uint64{1, 2, 3}}
				view := m.foreignView(conf)
				header := snapshotHeader(view, before.Term, conf)
				fill(header)
				<-p.stream(1, header, view, false)
				require.Equal(t, refused+1, m.host(3).Stats().Refused)
				require.Equal(t, before, m.status(3))
				require.Zero(t, m.node(3).installs.Load())
				require.Equal(t, m.node(3).stagedStates.Load(), m.node(3).discards.Load(), "what was staged is forgotten")
				m.mustPut(1, "k", "v")
				read := m.read(3)
				m.settle()
				require.True(t, read.ended)
				require.NoError(t, read.err)
				m.isolate(3)
				m.tick(30) // it campaigns
				require.NoError(t, m.status(3).Err)
			})
		})
	}
}

// A snapshot whose configuration Raft cannot take up stops the replica that it
// was meant for, and not the process.
func TestSnapshotOfAnImpossibleConfiguration(t *testing.T) {
	for name, conf := range map[string]*pb.ConfState{
		"a voter that learns":          {Voters: []uint64{1, 2, 3}, Learners: []uint64{3}},
		"to learn next, but not joint": {Voters: []uint64{1, 2, 3}, LearnersNext: []uint64{3}},
		"replica 0":                    {Voters: []uint64{0, 1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{host: shortLog}, func(t *testing.T, m *manual) {
				m.elect(1)
				m.crash(2)
				p := m.puppet(2)
				m.isolate(1)
				view := m.foreignView(conf)
				answer := p.stream(1, snapshotHeader(view, m.status(3).Term+1, conf), view, false)
				require.Equal(t, 0, <-answer, "staged: Raft alone knows")
				m.tick(3)
				require.NoError(t, m.host(3).Err())
				require.Equal(t, uint64(1), m.host(3).Stats().Failures)
				require.ErrorContains(t, m.status(3).Err, "contradicts what this replica holds")
				require.Zero(t, m.node(3).installs.Load())
				require.Equal(t, int64(1), m.node(3).discards.Load())
			})
		})
	}
}
