package raftlog_test

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"encoding/binary"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

var small = raftlog.Options{Inline: true, MinSegmentBytes: 4 << 10, MaxSegmentBytes: 4 << 10}

// fill writes n durable entries of 100 bytes, one flush each.
func fill(t testing.TB, d *raftlog.Disk, g *raftlog.Group, n int) {
	t.Helper()
	for range n {
		last, err := g.LastIndex()
		require.NoError(t, err)
		done := make(written, 1)
		g.Append(nil, []*pb.Entry{entry(last+1, 1, strings.Repeat("v", 100))}, done)
		if d.Inline() {
			require.NoError(t, d.Flush())
		}
		require.NoError(t, <-done)
	}
}

// written3 makes a log of three segments and returns the size of its parts.
func written3(t *testing.T) *vfs.MemFS {
	fs := vfs.NewMem()
	d := open(t, fs, "log", small)
	g := create(t, logOf(t, d, 1), 1, 1)
	for d.Stats().Segments < 3 {
		fill(t, d, g, 1)
	}
	fill(t, d, g, 5)
	require.NoError(t, d.Close())
	return fs
}

const (
	segment1 = "log/00000001.seg"
	segment2 = "log/00000002.seg"
	segment3 = "log/00000003.seg"
)

// frames lists where the frames of a segment begin.
func frames(b []byte) []int {
	var list []int
	for off := 64; off+32 <= len(b) && string(b[off:off+4]) == "fram"; {
		list = append(list, off)
		off += 32 + (int(binary.LittleEndian.Uint32(b[off+4:]))+31)&^31
	}
	return list
}

// A log whose last segment holds nothing but a torn frame goes on there, and states
// all before it as durable. That is no statement about what it writes next: if
// the first of several frames is torn, it is cut with those behind it.
func TestTornBeginningOfASegment(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := raftlog.Options{Inline: true, MinSegmentBytes: 4 << 10, MaxSegmentBytes: 4 << 20}
	d := open(t, fs, "log", o)
	g := create(t, logOf(t, d, 1), 1, 1)
	for index := uint64(1); d.Stats().Segments < 2; index++ {
		g.Append(nil, []*pb.Entry{entry(index, 1, strings.Repeat("v", 100))}, nil)
		require.NoError(t, d.Flush()) // the last is written to segment 2, and not synced
	}
	last, err := g.LastIndex()
	require.NoError(t, err)
	everything := vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}
	crashed := fs.CrashClone(everything)
	b := readFile(t, crashed, segment2)
	require.Len(t, frames(b), 1)
	b[64+32+10] ^= 1 // behind the header of the frame
	writeFile(t, crashed, segment2, b)
	d = open(t, crashed, "log", o)
	g = groupOf(t, logOf(t, d, 1), 1)
	kept, err := g.LastIndex()
	require.NoError(t, err)
	require.Equal(t, last-1, kept, "segment 2 is empty")
	want := contents(t, g)
	for i := range uint64(3) { // a frame each
		g.Append(nil, []*pb.Entry{entry(last+i, 1, "w")}, nil)
		require.NoError(t, d.Flush())
	}
	crashed = crashed.CrashClone(everything)
	b = readFile(t, crashed, segment2)
	require.Greater(t, len(frames(b)), 1)
	b[64] ^= 1
	writeFile(t, crashed, segment2, b)
	d = open(t, crashed, "log", o)
	require.Equal(t, want, contents(t, groupOf(t, logOf(t, d, 1), 1)))
	require.NoError(t, d.Close())
}

// Damage to what was durable is refused, wherever it lies, and the error names
// the place.
func TestCorruption(t *testing.T) {
	pristine := written3(t)
	for name, seg := range map[string]uint32{segment1: 1, segment2: 2, segment3: 3} {
		whole := readFile(t, pristine, name)
		places := frames(whole)
		if seg == 3 {
			seal := places[len(places)-1]
			require.Zero(t, binary.LittleEndian.Uint32(whole[seal+4:]), "the last frame is empty")
			places = places[:len(places)-1] // the seal itself may be torn
		}
		require.Greater(t, len(places), 4)
		for i, off := range places {
			for _, at := range []int{off, off + 5, off + 29, off + 33, off + 50} {
				b := append([]byte(nil), whole...)
				b[at] ^= 0x10
				writeFile(t, pristine, name, b)
				_, err := raftlog.OpenDisk(pristine, "log", small)
				var c *raftlog.CorruptionError
				require.ErrorAs(t, err, &c, "segment %d, frame %d, byte %d", seg, i, at-off)
				require.Equal(t, seg, c.Segment, err.Error())
				require.Equal(t, int64(off), c.Offset, err.Error())
				require.Contains(t, err.Error(), fmt.Sprintf("segment %d at offset %d", seg, off))
			}
		}
		writeFile(t, pristine, name, whole)
	}
	require.NoError(t, open(t, pristine, "log", small).Close())
}

// Without the seal of an orderly end, damage to the last flush is a torn tail:
// it goes, and what stood before it stays.
func TestTornTail(t *testing.T) {
	pristine := written3(t)
	whole := readFile(t, pristine, segment3)
	places := frames(whole)
	last := places[len(places)-2]
	for cut := last; cut < places[len(places)-1]; cut += 7 {
		b := append([]byte(nil), whole...)
		clear(b[cut:])
		writeFile(t, pristine, segment3, b)
		d := open(t, pristine, "log", small)
		g := groupOf(t, logOf(t, d, 1), 1)
		n, err := g.LastIndex()
		require.NoError(t, err)
		fill(t, d, g, 1)
		require.NoError(t, d.Close())
		d = open(t, pristine, "log", small)
		again, err := groupOf(t, logOf(t, d, 1), 1).LastIndex()
		require.NoError(t, err)
		require.Equal(t, n+1, again)
		require.NoError(t, d.Close())
	}
}

// What a file holds behind a torn frame never comes back, though it is whole:
// it was in the same flush, and it follows what is not there.
func TestNothingBehindATear(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs, "log", raftlog.Options{Inline: true})
	g := create(t, logOf(t, d, 1), 1, 1)
	require.NoError(t, d.Flush())
	big := strings.Repeat("b", 1<<20) // a frame of its own
	done := make(written, 3)
	for i := range uint64(3) {
		g.Append(nil, []*pb.Entry{entry(i+1, 1, big)}, done)
	}
	require.NoError(t, d.Flush())
	require.NoError(t, d.Close())
	b := readFile(t, fs, segment2) // 1 MiB does not fit the first, of 1 MiB
	places := frames(b)
	require.NotEmpty(t, places)
	b[places[0]+100] ^= 1
	clear(b[places[len(places)-1]:]) // without the seal
	writeFile(t, fs, segment2, b)
	for num := 3; ; num++ {
		name := fmt.Sprintf("log/%08x.seg", num)
		if _, err := fs.Stat(name); err != nil {
			break
		}
		b := readFile(t, fs, name)
		if places := frames(b); len(places) > 1 {
			clear(b[places[1]:])
			writeFile(t, fs, name, b)
		}
	}
	_, err := raftlog.OpenDisk(fs, "log", raftlog.Options{Inline: true})
	// The segments were synced one after the other, so this was durable.
	var c *raftlog.CorruptionError
	require.ErrorAs(t, err, &c)
	require.Equal(t, uint32(2), c.Segment)
}

// The order of segments, what they are called and what they say they are.
func TestSegments(t *testing.T) {
	t.Run("missing", func(t *testing.T) {
		fs := written3(t)
		require.NoError(t, fs.Remove(segment2))
		_, err := raftlog.OpenDisk(fs, "log", small)
		var c *raftlog.CorruptionError
		require.ErrorAs(t, err, &c)
		require.Equal(t, uint32(2), c.Segment)
		require.ErrorContains(t, err, "missing between 1 and 3")
	})
	t.Run("missing first", func(t *testing.T) {
		fs := written3(t)
		require.NoError(t, fs.Remove(segment1))
		_, err := raftlog.OpenDisk(fs, "log", small)
		require.ErrorContains(t, err, "group 1 of owner 1 has records but no state")
	})
	t.Run("foreign name", func(t *testing.T) {
		fs := written3(t)
		writeFile(t, fs, "log/0000000x.seg", nil)
		_, err := raftlog.OpenDisk(fs, "log", small)
		require.ErrorContains(t, err, `foreign file "0000000x.seg"`)
	})
	t.Run("other files", func(t *testing.T) {
		fs := written3(t)
		writeFile(t, fs, "log/README", nil)
		writeFile(t, fs, "log/00000009.spare", nil)
		require.NoError(t, open(t, fs, "log", small).Close())
		_, err := fs.Stat("log/00000009.spare")
		require.Error(t, err, "what had not become a segment is removed")
	})
	t.Run("other store", func(t *testing.T) {
		fs, other := written3(t), written3(t)
		writeFile(t, fs, segment2, readFile(t, other, segment2))
		_, err := raftlog.OpenDisk(fs, "log", small)
		require.ErrorContains(t, err, "00000002.seg is of store")
	})
	t.Run("other number", func(t *testing.T) {
		fs := written3(t)
		writeFile(t, fs, segment2, readFile(t, fs, segment3))
		_, err := raftlog.OpenDisk(fs, "log", small)
		require.ErrorContains(t, err, "corruption in segment 2 at offset 0: header of 00000002.seg: it is segment 3")
	})
	t.Run("header", func(t *testing.T) {
		fs := written3(t)
		for at := range 28 {
			b := readFile(t, fs, segment2)
			b[at] ^= 4
			writeFile(t, fs, segment2, b)
			_, err := raftlog.OpenDisk(fs, "log", small)
			var c *raftlog.CorruptionError
			require.ErrorAs(t, err, &c, "byte %d", at)
			require.Equal(t, uint32(2), c.Segment)
			b[at] ^= 4
			writeFile(t, fs, segment2, b)
		}
		writeFile(t, fs, segment3, []byte("short"))
		_, err := raftlog.OpenDisk(fs, "log", small)
		require.ErrorContains(t, err, "5 bytes, expected 64")
	})
	t.Run("version", func(t *testing.T) {
		fs := written3(t)
		b := readFile(t, fs, segment3)
		binary.LittleEndian.PutUint32(b[8:], 9)
		binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[:24], crc32.MakeTable(crc32.Castagnoli)))
		writeFile(t, fs, segment3, b)
		_, err := raftlog.OpenDisk(fs, "log", small)
		var v *raftlog.VersionError
		require.ErrorAs(t, err, &v)
		require.ErrorContains(t, err, "00000003.seg: format version 9, this program reads versions 1 to 1")
	})
}

// What recovery shows must be on stable storage, because Raft acts on it
// without writing it again: here a process ends before it has synced, and then
// the power goes.
func TestRecoverySyncs(t *testing.T) {
	mem := vfs.NewCrashableMem()
	fs := &hookFS{FS: mem, unlocked: true}
	d := open(t, fs, "log", small)
	g := create(t, logOf(t, d, 1), 1, 1)
	fill(t, d, g, 1)
	g.Append(hard(5, 3, 0), nil, nil)
	require.NoError(t, d.Flush()) // written, and nobody waits for a sync
	l := logOf(t, open(t, fs, "log", small), 1)
	require.Equal(t, uint64(3), groupOf(t, l, 1).HardState().GetVote())

	lost := mem.CrashClone(vfs.CrashCloneCfg{})
	d = open(t, lost, "log", small)
	require.Equal(t, uint64(3), groupOf(t, logOf(t, d, 1), 1).HardState().GetVote())
	require.NoError(t, d.Close())
}

// A directory belongs to one Disk.
func TestLock(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs, "log", small)
	_, err := raftlog.OpenDisk(fs, "log", small)
	require.ErrorContains(t, err, "lock log")
	require.NoError(t, d.Close())
	require.NoError(t, open(t, fs, "log", small).Close())
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]raftlog.Options{
		"MaxSegmentBytes: 17, expected 4096 to 1073741824":                 {MaxSegmentBytes: 17},
		"MinSegmentBytes: 17, expected 4096 to MaxSegmentBytes (67108864)": {MinSegmentBytes: 17},
		"CacheBytes: -1, expected at least 1":                              {CacheBytes: -1},
		"MaxBufferBytes: -1, expected at least 1":                          {MaxBufferBytes: -1},
		"Delay: set together with Inline":                                  {Inline: true, Delay: noDelay},
	} {
		_, err := raftlog.OpenDisk(vfs.NewMem(), "log", o)
		require.ErrorContains(t, err, want)
	}
}
