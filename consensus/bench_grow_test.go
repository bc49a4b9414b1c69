package consensus_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// grownSegmentBytes is the size of a segment of a store that has grown: a
// quarter of the default, because a few of them are written before each case.
const grownSegmentBytes = 16 << 20

// bootGrown boots a cluster whose durable logs are past their youth. A new
// store begins with small segments, which it has to make one after another, and
// for its first hundreds of mebibytes the disk is as busy with filling larger
// ones as with the log: a short benchmark would measure the age of the store.
// So each log is grown until it writes to segments that older ones left, as a
// log does that has been in use for a while. Not the logs of many nodes on one
// disk, which each write too little for that to matter.
func bootGrown(b *testing.B, s setup) *cluster {
	b.Helper()
	const manyNodes = 5
	grown := s.disk == "sync" && s.nodes < manyNodes
	if grown {
		s.raftlog = func(o *raftlog.Options) {
			o.MinSegmentBytes, o.MaxSegmentBytes = grownSegmentBytes, grownSegmentBytes
		}
	}
	c := bootBench(b, s)
	if !grown {
		return c
	}
	var wg sync.WaitGroup
	errs := make([]error, len(c.disks))
	for i, d := range c.disks {
		wg.Go(func() { errs[i] = growLog(d) })
	}
	wg.Wait()
	require.NoError(b, errors.Join(errs...))
	return c
}

// growOwner is no node's.
const growOwner = 1 << 32

// growLog writes through an owner of its own until segments are used again.
func growLog(d *raftlog.Disk) error {
	l, err := d.Log(growOwner)
	if err != nil {
		return err
	}
	g, err := l.Create(1, 1, 0, 0, nil, nil)
	if err != nil {
		return err
	}
	done := make(written, 1)
	data := make([]byte, 1<<20)
	index, term := uint64(0), uint64(1)
	for st := d.Stats(); st.SegmentsRetired < 2 || st.SegmentsRecycled < 2; st = d.Stats() {
		if index++; index > 1<<10 {
			return fmt.Errorf("no segment was used again: %+v", st)
		}
		g.Append(nil, []*pb.Entry{{Index: new(index), Term: &term, Data: data}}, done)
		if err := <-done; err != nil {
			return err
		}
		g.Truncate(index)
	}
	g.Destroy(done)
	if err := <-done; err != nil {
		return err
	}
	return l.Close()
}

// written is a raftlog.Completion to wait for.
type written chan error

func (w written) Written(err error) { w <- err }
