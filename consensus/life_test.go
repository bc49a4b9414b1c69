package consensus_test

import (
	"errors"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// starting starts a host on what node 1 left on its disk, and ends it again.
func starting(t *testing.T, m *manual, change func(*consensus.Options)) (epoch uint64, err error) {
	t.Helper()
	n := m.node(1)
	disk, err := raftlog.OpenDisk(n.fs, "log", raftlog.Options{Inline: true, MaxSegmentBytes: 1 << 20})
	require.NoError(t, err)
	log, err := disk.Log(1)
	require.NoError(t, err)
	o := consensus.Options{
		Node: 1, Log: log, Pool: m.pool, Net: m.wire.Node(1), Clock: n.clock, Manual: true,
		Machine: func(consensus.GroupID) (consensus.StateMachine, error) {
			return kv.New(kv.Options{FS: n.fs, Dir: n.fs.PathJoin("kv", "1")})
		},
	}
	change(&o)
	h, err := consensus.New(o)
	if err == nil {
		epoch = h.Epoch()
		require.NoError(t, h.Close())
	}
	require.NoError(t, disk.Close())
	return epoch, err
}

func withEpoch(e uint64) func(*consensus.Options) {
	return func(o *consensus.Options) { o.Epoch = e }
}

// A node that used an epoch twice would be taken for its earlier life, whose
// promises it has forgotten.
func TestEpochsRise(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		require.Equal(t, uint64(1), m.host(1).Epoch())
		m.crash(1)
		for _, step := range []struct {
			epoch, want uint64
			err         string
		}{
			{1, 0, "option Epoch is 1, expected above 1"},
			{0, 2, ""},
			{0, 3, ""},
			{7, 7, ""},
			{7, 0, "option Epoch is 7, expected above 7"},
			{3, 0, "option Epoch is 3, expected above 7"},
			{0, 8, ""},
			{math.MaxUint64, math.MaxUint64, ""},
			{0, 0, "no epoch is left"},
		} {
			got, err := starting(t, m, withEpoch(step.epoch))
			require.Equal(t, step.want, got)
			if step.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, step.err)
			}
		}
	})
}

// receiveHook tells when a host begins to receive.
type receiveHook struct {
	transport.Transport
	before func()
}

func (r *receiveHook) Receive(h transport.Receiver) {
	r.before()
	r.Transport.Receive(h)
}

// The power goes between the moment at which the epoch is kept and its first
// use: whatever was not synced is lost, and the epoch is not used again.
func TestEpochIsDurableBeforeItsUse(t *testing.T) {
	power := func() vfs.FS { return vfs.NewCrashableMem() }
	stepwise(t, manualOptions{fs: power}, func(t *testing.T, m *manual) {
		m.crash(1)
		fs := m.node(1).fs.(*vfs.MemFS)
		var lost []*vfs.MemFS
		cut := func() { lost = append(lost, fs.CrashClone(vfs.CrashCloneCfg{})) }
		_, err := starting(t, m, func(o *consensus.Options) {
			machine := o.Machine
			o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) { cut(); return machine(g) }
			o.Net = &receiveHook{o.Net, cut}
		})
		require.NoError(t, err)
		require.Len(t, lost, 2)
		for _, fs := range lost {
			m.node(1).fs = fs
			_, err := starting(t, m, withEpoch(2))
			require.ErrorContains(t, err, "option Epoch is 2, expected above 2")
			got, err := starting(t, m, withEpoch(0))
			require.NoError(t, err)
			require.Equal(t, uint64(3), got)
		}
	})
}

// An epoch counts as used though the start came to nothing.
func TestEpochOfAStartThatFailed(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.crash(1)
		boom := errors.New("boom")
		_, err := starting(t, m, func(o *consensus.Options) {
			o.Machine = func(consensus.GroupID) (consensus.StateMachine, error) { return nil, boom }
		})
		require.ErrorIs(t, err, boom)
		got, err := starting(t, m, withEpoch(0))
		require.NoError(t, err)
		require.Equal(t, uint64(3), got)
	})
}

// A record that nobody here wrote is refused, whatever is wrong with it.
func TestRecordOfEarlierStarts(t *testing.T) {
	for record, want := range map[string]string{
		"\x02\x01\x01":     "has version 2, expected 1",
		"\x01":             "is 01, expected",
		"\x01\x05":         "is 0105, expected",
		"\x01\x05\x05\x05": "is 01050505, expected",
		"\x01\x00\x05":     "is 010005, expected",
		"\x01\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01": "expected an epoch above 0 and a duration",
	} {
		stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
			m.crash(1)
			_, err := starting(t, m, func(o *consensus.Options) {
				require.NoError(t, o.Log.SetMeta([]byte(record), nil))
			})
			require.ErrorContains(t, err, want)
		})
	}
}

// A restart with another LeaseDuration keeps what was promised under the
// longest: 3 may vote, 1 still reads under what 2 promised to it before it
// restarted, twice, with a shorter one.
func TestShorterLeaseAfterARestart(t *testing.T) {
	lease := 40 * manualTick
	o := func(o *consensus.Options) {
		o.ElectionTicks, o.QuiesceTicks, o.LeaseDuration = 3, -1, 40*manualTick
		if o.Node == 2 {
			o.LeaseDuration = lease
		}
	}
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		// 3 loses touch with 1 alone, until its promise has ended.
		m.lose = func(p transport.Pending) bool { return p.From == 1 && p.To == 3 || p.From == 3 && p.To == 1 }
		m.tick(41)
		require.Equal(t, []consensus.NodeID{1}, m.holders())
		require.False(t, m.host(3).Bound(1))
		m.isolate(1)
		lease = 4 * manualTick
		for range 2 {
			m.crash(2)
			m.restart(2)
		}
		require.Equal(t, m.now+40*manualTick, m.host(2).VotesFrom())
		held := false
		for range 80 {
			m.now += manualTick // the clock of 1 goes on, and its replica finds nothing out
			m.host(2).Tick()
			m.host(3).Tick()
			m.settle()
			_, old := m.host(1).Lease(1)
			_, two := m.host(2).Lease(1)
			_, three := m.host(3).Lease(1)
			require.False(t, old && (two || three), "at %v", m.now)
			held = held || two || three
		}
		require.True(t, held, "2 and 3 go on without 1")
	})
}
