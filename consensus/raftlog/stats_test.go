package raftlog_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// What Stats say of bytes and syncs is all that reaches the file system, to the
// byte: over files filled ahead, segments made, used again and removed, an end
// that recovery cuts, directories, and the end of a Disk.
func TestStatsCountEverything(t *testing.T) {
	for _, inline := range []bool{false, true} {
		fs := &hookFS{FS: vfs.NewMem()}
		o := raftlog.Options{MinSegmentBytes: 8 << 10, MaxSegmentBytes: 64 << 10, Inline: inline}
		var bytes, syncs int64
		check := func(d *raftlog.Disk) raftlog.Stats {
			require.NoError(t, d.Close())
			s := d.Stats()
			gotBytes, gotSyncs := fs.counted()
			require.Equal(t, gotBytes-bytes, s.Bytes+s.PreparedBytes, "bytes; inline %v: %+v", inline, s)
			require.Equal(t, gotSyncs-syncs, s.Syncs+s.PrepareSyncs, "syncs; inline %v: %+v", inline, s)
			require.NotEqual(t, bytes, gotBytes)
			bytes, syncs = gotBytes, gotSyncs
			return s
		}
		d := open(t, fs, "some/where/log", o)
		g := create(t, logOf(t, d, 1), 1, 1)
		data := make([]byte, 4<<10)
		done := make(written, 1)
		retired := func() int64 { return d.Stats().SegmentsRetired }
		for index := uint64(1); retired() < 5; index++ {
			g.Append(nil, []*pb.Entry{{Index: new(index), Term: new(uint64(1)), Data: data}}, done)
			if inline {
				require.NoError(t, d.Flush())
			}
			require.NoError(t, <-done)
			g.Truncate(index)
		}
		s := check(d)
		require.Positive(t, s.SegmentsRecycled)

		// A write that was torn off lies behind the end, and is zeroed at open.
		names, err := fs.List("some/where/log")
		require.NoError(t, err)
		last := ""
		for _, name := range names {
			if len(name) == len("00000001.seg") && name > last && name[8:] == ".seg" {
				last = name
			}
		}
		file := fs.PathJoin("some/where/log", last)
		image := readFile(t, fs.FS, file)
		image[len(image)-1] = 1
		writeFile(t, fs.FS, file, image)
		s = check(open(t, fs, "some/where/log", o))
		require.Positive(t, s.PreparedBytes)
	}
}
