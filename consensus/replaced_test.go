package consensus_test

import (
	"context"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/phantomdb/phantomdb/consensus"
)

// A follower has batches waiting for its machine when a snapshot comes that
// covers them: the snapshot is installed behind them, and once.
func TestInstallWaitsForTheBacklog(t *testing.T) {
	o := func(o *consensus.Options) { shortLog(o); o.AsyncApply = true }
	stepwise(t, manualOptions{host: o, applyWorkers: 3}, func(t *testing.T, m *manual) {
		m.elect(1)
		open := shut(&m.node(3).apply)
		for _, key := range []string{"a", "b", "c"} {
			m.mustPut(1, key, "v")
			m.tick(1)
		}
		require.Equal(t, m.status(1).Commit, m.status(3).Commit)
		require.Less(t, m.status(3).Applied, m.status(3).Commit-1, "nothing waits")
		m.isolate(3)
		for range 8 {
			m.mustPut(1, "k", strings.Repeat("v", 200))
		}
		m.mustPut(1, "k", "new")
		require.Greater(t, m.status(1).First, m.status(3).Last+1, "the log was never cut")
		m.wire.Heal()
		m.until("a snapshot", func() bool { return m.host(3).Stats().SnapshotsReceived > 0 })
		m.tick(1)
		require.Zero(t, m.node(3).installs.Load(), "while a batch is applied")
		open()
		m.until("the end", func() bool { return m.get(3, "k") == "new" })
		require.NoError(t, m.host(3).Err())
		require.Equal(t, int64(1), m.node(3).installs.Load())
		require.Zero(t, m.node(3).mixed.Load(), "batches applied while a snapshot was installed")
		m.mustPut(1, "k", "newer")
		m.tick(1)
		require.Equal(t, "newer", m.get(3, "k"))
	})
}

// offer streams what node 1's machine of a group holds to node 3, under the metadata
// of a leader on node 2, which a puppet plays, and returns the answer; -1 stands
// for none. Only part of it is sent if cut is set, and the stream stays open.
func (p *puppet) offer(g consensus.GroupID, voters []uint64, cut bool) (answer chan int, view consensus.View) {
	sm, err := p.m.host(1).Machine(g)
	require.NoError(p.m.tb, err)
	st, err := p.m.host(1).Status(g)
	require.NoError(p.m.tb, err)
	view, err = sm.(*stallingMachine).Machine.View()
	require.NoError(p.m.tb, err)
	return p.stream(g, snapshotHeader(view, st.Term, &pb.ConfState{Voters: voters}), view, cut), view
}

// snapshotHeader announces a view to node 3 as the leader on node 2 would.
func snapshotHeader(view consensus.View, term uint64, conf *pb.ConfState) *pb.Message {
	at := view.State()
	return &pb.Message{
		Type: pb.MsgSnap.Enum(), From: new(uint64(2)), To: new(uint64(3)), Term: new(term),
		Snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(at.Index), Term: new(at.Term), ConfState: conf}},
	}
}

// stream sends a header and a view, which it closes, to node 3.
func (p *puppet) stream(g consensus.GroupID, header *pb.Message, view consensus.View, cut bool) (answer chan int) {
	m := p.m
	head, err := proto.Marshal(header)
	require.NoError(m.tb, err)
	b := binary.LittleEndian.AppendUint64(nil, uint64(g))
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(head))), head...)
	conn, err := p.net.Stream(context.Background(), 3, "consensus/snapshot")
	require.NoError(m.tb, err)
	answer = make(chan int, 1)
	go func() {
		_, err := conn.Write(b)
		if err == nil && !cut {
			_, _ = view.WriteTo(conn)
		}
		var got [1]byte
		if _, err := io.ReadFull(conn, got[:]); err != nil {
			answer <- -1
		} else {
			answer <- int(got[0])
		}
		_ = conn.Close()
		_ = view.Close()
	}()
	m.settle()
	synctest.Wait()
	m.settle()
	return answer
}

// A snapshot whose configuration is not the one announced is refused: entries
// behind it would be applied to another than Raft believes.
func TestSnapshotOfAnotherConfigurationIsRefused(t *testing.T) {
	stepwise(t, manualOptions{host: shortLog}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(2)
		p := m.puppet(2)
		m.isolate(1)
		before := m.status(3)
		answer, _ := p.offer(1, []uint64{2, 3}, false)
		require.Equal(t, 1, <-answer)
		require.Zero(t, m.host(3).Stats().SnapshotsReceived)
		require.Equal(t, before.Applied, m.status(3).Applied)
		answer, _ = p.offer(1, []uint64{1, 2, 3}, false)
		require.Equal(t, 0, <-answer)
		require.Equal(t, uint64(1), m.host(3).Stats().SnapshotsReceived)
	})
}

// One snapshot at a time is staged for a replica, for a bounded time.
func TestOneSnapshotIsStagedAtATime(t *testing.T) {
	o := func(o *consensus.Options) { shortLog(o); o.MaxSnapshots = 4; o.SnapshotTimeout = time.Minute }
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(2)
		p := m.puppet(2)
		m.isolate(1)
		stuck, _ := p.offer(1, []uint64{1, 2, 3}, true)
		require.Empty(t, stuck)
		second, _ := p.offer(1, []uint64{1, 2, 3}, false)
		require.Equal(t, 1, <-second, "while another is staged")
		require.Empty(t, stuck)
		time.Sleep(59 * time.Second)
		m.settle()
		require.Empty(t, stuck)
		time.Sleep(2 * time.Second)
		m.settle()
		require.NotEmpty(t, stuck, "a sender that died holds the place for ever")
		require.NotEqual(t, 0, <-stuck)
		third, _ := p.offer(1, []uint64{1, 2, 3}, false)
		require.Equal(t, 0, <-third)
	})
}

// A node stages at most MaxSnapshots at a time, of all its groups together, and
// says so to whoever offers another.
func TestReceiverBoundsItsSnapshots(t *testing.T) {
	o := func(o *consensus.Options) { shortLog(o); o.MaxSnapshots = 1 }
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		for _, v := range m.voters() {
			require.NoError(t, m.host(v.Node).Create(2, v.Replica, consensus.Initial{Voters: m.voters()}))
		}
		require.NoError(t, m.host(1).Campaign(2))
		m.until("a leader", func() bool {
			st, err := m.host(1).Status(2)
			return err == nil && st.Applied > 0
		})
		m.crash(2)
		p := m.puppet(2)
		m.isolate(1)
		stuck, _ := p.offer(1, []uint64{1, 2, 3}, true)
		require.Empty(t, stuck)
		second, _ := p.offer(2, []uint64{1, 2, 3}, false)
		require.Equal(t, 1, <-second, "while another group's is staged")
		require.Zero(t, m.host(3).Stats().SnapshotsReceived)
		require.Empty(t, stuck)
		time.Sleep(3 * time.Minute) // past SnapshotTimeout
		m.settle()
		require.NotEqual(t, 0, <-stuck)
		third, _ := p.offer(2, []uint64{1, 2, 3}, false)
		require.Equal(t, 0, <-third, "there is room again")
	})
}

// A snapshot that is being installed is not installed again, whoever else is
// done with the machine meanwhile.
func TestInstallRunsOnce(t *testing.T) {
	stepwise(t, manualOptions{host: shortLog}, func(t *testing.T, m *manual) {
		lag(m)
		open := shut(&m.node(3).stall)
		m.until("an install", func() bool { return m.node(3).installs.Load() > 0 })
		m.host(3).SeekInstall(1)
		m.settle()
		require.Equal(t, int64(1), m.node(3).installs.Load())
		open()
		m.until("the end", func() bool { return m.get(3, "k") == "new" })
		require.Equal(t, int64(1), m.node(3).installs.Load())
		require.NoError(t, m.host(3).Err())
	})
}

// The receiver of a snapshot needs the log behind it while it installs: it must
// not find itself in need of the next snapshot. One that died must not hold the
// log for ever.
func TestLogBehindASnapshotIsKept(t *testing.T) {
	for name, dies := range map[string]bool{"follows": false, "dies": true} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{host: shortLog}, func(t *testing.T, m *manual) {
				lag(m)
				open := shut(&m.node(3).stall)
				m.until("a snapshot", func() bool { return m.host(3).Stats().SnapshotsReceived > 0 })
				m.settle()
				at := m.status(1).Applied
				write := func() {
					for range 10 {
						m.mustPut(1, "k", strings.Repeat("v", 200))
					}
				}
				write()
				require.LessOrEqual(t, m.status(1).First, at+1)
				if !dies {
					open()
					m.until("replica 3", func() bool { return m.status(3).Applied == m.status(1).Applied })
					require.Equal(t, uint64(1), m.host(1).Stats().SnapshotsSent)
					return
				}
				m.crash(3)
				m.tick(30)
				write()
				require.Greater(t, m.status(1).First, at+1)
			})
		})
	}
}

// A replica that goes between the moment at which Raft asked for a snapshot and
// the moment at which it is sent gives the place back.
func TestViewOfALostReplicaIsReleased(t *testing.T) {
	o := func(o *consensus.Options) { shortLog(o); o.MaxSnapshots = 1 }
	for name, end := range map[string]func(*consensus.Host) error{
		"destroyed": func(h *consensus.Host) error { return h.Destroy(1) },
		"closed":    func(h *consensus.Host) error { return h.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
				m.elect(1)
				require.NotEmpty(t, m.host(1).FreezeView(1))
				require.Equal(t, 1, m.host(1).SnapshotsUnderWay())
				require.NoError(t, end(m.host(1)))
				m.settle()
				require.Zero(t, m.host(1).SnapshotsUnderWay())
			})
		})
	}
}

// Raft may ask for a snapshot while the entry that changes the configuration is
// on its way into the machine. What it is told is the configuration that is in
// the snapshot, not the one in force.
func TestSnapshotAnnouncesItsOwnConfiguration(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		require.Equal(t, []uint64{1, 2, 3}, m.host(1).FreezeView(1, 1, 2, 3, 4))
	})
}
