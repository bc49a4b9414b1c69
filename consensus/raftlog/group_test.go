package raftlog_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// written is a Completion to wait for.
type written chan error

func (w written) Written(err error) { w <- err }

func open(t testing.TB, fs vfs.FS, dir string, o raftlog.Options) *raftlog.Disk {
	t.Helper()
	d, err := raftlog.OpenDisk(fs, dir, o)
	require.NoError(t, err)
	return d
}

func logOf(t testing.TB, d *raftlog.Disk, owner uint64) *raftlog.Log {
	t.Helper()
	l, err := d.Log(owner)
	require.NoError(t, err)
	return l
}

func create(t testing.TB, l *raftlog.Log, g raftlog.GroupID, r raftlog.ReplicaID) *raftlog.Group {
	t.Helper()
	group, err := l.Create(g, r, 0, 0, []byte("meta"), nil)
	require.NoError(t, err)
	return group
}

func groupOf(t testing.TB, l *raftlog.Log, g raftlog.GroupID) *raftlog.Group {
	t.Helper()
	group, err := l.Group(g)
	require.NoError(t, err)
	return group
}

func entry(index, term uint64, data string) *pb.Entry {
	return &pb.Entry{Index: &index, Term: &term, Data: []byte(data)}
}

func hard(term, vote, commit uint64) *pb.HardState {
	return &pb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

// contents prints what a group holds, for comparison.
func contents(t testing.TB, g *raftlog.Group) string {
	t.Helper()
	first, err := g.FirstIndex()
	require.NoError(t, err)
	last, err := g.LastIndex()
	require.NoError(t, err)
	base, err := g.Term(first - 1)
	require.NoError(t, err)
	h := g.HardState()
	s := fmt.Sprintf("replica %d meta %s hard %d/%d/%d base %d/%d:", g.Replica(), brief(string(g.Meta())), h.GetTerm(), h.GetVote(), h.GetCommit(), first-1, base)
	entries, err := g.Entries(first, last+1, 1<<40)
	require.NoError(t, err)
	require.Len(t, entries, int(last+1-first))
	for _, e := range entries {
		s += fmt.Sprintf(" %d/%d=%d:%s", e.GetIndex(), e.GetTerm(), e.GetType(), brief(string(e.GetData())))
	}
	return s
}

// A group answers as raft's contract for Storage asks, before and after its
// writes are durable and after it was opened again.
func TestGroup(t *testing.T) {
	for _, inline := range []bool{true, false} {
		t.Run(fmt.Sprintf("inline=%v", inline), func(t *testing.T) {
			fs, o := vfs.NewMem(), raftlog.Options{Inline: inline, MaxSegmentBytes: 64 << 10}
			d := open(t, fs, "log", o)
			l := logOf(t, d, 1)
			g, err := l.Create(7, 2, 10, 3, []byte("conf"), nil)
			require.NoError(t, err)
			require.Equal(t, `replica 2 meta conf hard 3/0/10 base 10/3:`, contents(t, g))
			done := make(written, 2)
			conf := pb.EntryConfChangeV2
			special := entry(13, 4, "c")
			special.Type = &conf
			g.Append(hard(4, 2, 10), []*pb.Entry{entry(11, 4, "a"), entry(12, 4, "b"), special}, done)
			g.Append(hard(5, 1, 11), []*pb.Entry{entry(13, 5, "x"), entry(14, 5, "")}, done)
			if inline {
				require.Empty(t, done)
				require.Positive(t, d.Buffered())
				require.NoError(t, d.Flush())
			}
			require.NoError(t, <-done)
			require.NoError(t, <-done)
			require.Zero(t, d.Buffered())
			g.Truncate(11)
			want := `replica 2 meta conf hard 5/1/11 base 11/4: 12/4=0:b 13/5=0:x 14/5=0:`
			require.Equal(t, want, contents(t, g))
			for i, want := range map[uint64]error{10: raft.ErrCompacted, 15: raft.ErrUnavailable} {
				_, err := g.Term(i)
				require.ErrorIs(t, err, want)
			}
			_, err = g.Entries(11, 12, 1)
			require.ErrorIs(t, err, raft.ErrCompacted)
			_, err = g.Entries(12, 16, 1)
			require.ErrorIs(t, err, raft.ErrUnavailable)
			list, err := g.Entries(12, 15, 0)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Zero(t, g.SizeTo(11))
			require.Equal(t, g.Bytes(), g.SizeTo(14))
			require.Equal(t, g.Bytes(), g.SizeTo(1<<63))
			require.Less(t, g.SizeTo(12), g.SizeTo(13))

			require.NoError(t, l.Close())
			again := logOf(t, d, 1)
			require.Equal(t, want, contents(t, groupOf(t, again, 7)))
			require.NoError(t, d.Close())

			d = open(t, fs, "log", o)
			l = logOf(t, d, 1)
			require.Equal(t, []raftlog.Info{{Group: 7, Replica: 2, Meta: []byte("conf")}}, l.Groups())
			require.Equal(t, want, contents(t, groupOf(t, l, 7)))
			require.NoError(t, d.Close())
		})
	}
}
