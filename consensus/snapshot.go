package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A snapshot travels in a stream of its own:
//
//	group u64 | length u32 | Raft's MsgSnap, metadata only | what View.WriteTo writes
//
// and the receiver answers with one byte, 0 for staged. Raft sees the MsgSnap
// only after that, so a snapshot that breaks on the way changes nothing.
const snapshotService = "consensus/snapshot"

// maxSnapshotHeader bounds the encoded MsgSnap.
const maxSnapshotHeader = 1 << 20

// A snapshotter bounds the snapshots under way.
type snapshotter struct {
	h    *Host
	send chan struct{}
	recv chan struct{}
}

func newSnapshotter(h *Host) *snapshotter {
	return &snapshotter{
		h:    h,
		send: make(chan struct{}, h.opts.MaxSnapshots),
		recv: make(chan struct{}, h.opts.MaxSnapshots),
	}
}

func tryAcquire(sem chan struct{}) bool {
	select {
	case sem <- struct{}{}:
		return true
	default:
		return false
	}
}

// snapshotMetadata freezes the machine for a follower that the log cannot
// repair. Raft asks for it on the worker, and sends a MsgSnap at once.
func (r *replica) snapshotMetadata() (*pb.Snapshot, error) {
	if r.applying || r.install != nil || r.outgoing > 0 || r.host.stopping.Load() || !tryAcquire(r.host.snaps.send) {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	view, err := r.sm.View()
	if err != nil {
		<-r.host.snaps.send
		r.host.logger.Error("consensus: freeze machine", "group", uint64(r.group), "err", err)
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	index, term := view.Position()
	conf, err := confAt(index, view.Row(rowConfig))
	if err != nil {
		_ = view.Close()
		<-r.host.snaps.send
		r.host.logger.Error("consensus: configuration of a frozen machine", "group", uint64(r.group), "err", err)
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	r.outgoing, r.view = 1, view
	r.pin.index = index
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{ConfState: conf, Index: new(index), Term: new(term)}}, nil
}

// confAt returns the ConfState in the row of a frozen machine: Raft's must be
// that of the very index, or entries behind it would be applied to another one.
func confAt(index uint64, row []byte) (*pb.ConfState, error) {
	if row == nil {
		return nil, fmt.Errorf("no configuration at index %d", index)
	}
	c, err := decodeConfig(row)
	if err != nil {
		return nil, err
	}
	return c.conf, nil
}

// A pin is the log that the receiver of a snapshot needs: what lies behind its
// index, until the receiver follows or the time is over.
type pin struct {
	index uint64 // 0: none
	to    ReplicaID
	since time.Duration // when the snapshot left
	until time.Duration
}

// takeView gives up a view that no message took, and returns it.
func (r *replica) takeView() View {
	v := r.view
	if v != nil {
		r.view, r.outgoing = nil, 0
		<-r.host.snaps.send
	}
	return v
}

// sendSnapshot streams the frozen view in the background.
func (r *replica) sendSnapshot(m *pb.Message) {
	h, view, node := r.host, r.view, r.node(ReplicaID(m.GetTo()))
	r.view = nil
	if view == nil {
		panic(fmt.Sprintf("consensus: group %d: snapshot message without a view", r.group))
	}
	r.pin.to, r.pin.since, r.pin.until = ReplicaID(m.GetTo()), r.now(), r.now()+h.opts.SnapshotTimeout
	r.busy++
	h.stats.snapshotsSent.Add(1)
	h.wg.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, h.opts.SnapshotTimeout)
		err := h.snaps.stream(ctx, node, r.group, m, view)
		cancel()
		err = errors.Join(err, view.Close())
		<-h.snaps.send
		r.later(func() { r.snapshotSent(m.GetTo(), node, err) })
	})
}

func (r *replica) snapshotSent(to uint64, node NodeID, err error) {
	r.outgoing = 0
	r.letGo()
	if r.gone {
		return
	}
	status := raft.SnapshotFinish
	// Installing takes about as long as sending did. A receiver that does not
	// follow by then must not hold the log: it may have crashed.
	r.pin.until = r.now() + 2*(r.now()-r.pin.since) + 2*time.Duration(r.host.opts.ElectionTicks)*r.host.opts.TickInterval
	if err != nil {
		r.pin = pin{}
		status = raft.SnapshotFailure
		r.host.logger.Warn("consensus: send snapshot", "group", uint64(r.group), "to", uint64(node), "err", err)
	}
	r.rn.ReportSnapshot(to, status)
	r.touch()
}

// stream sends one snapshot and waits until it is staged.
func (s *snapshotter) stream(ctx context.Context, to NodeID, g GroupID, m *pb.Message, view View) (err error) {
	head, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	conn, err := s.h.net.Stream(ctx, to, snapshotService)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { err = errors.Join(err, conn.Close()) }()
	b := binary.LittleEndian.AppendUint64(nil, uint64(g))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(head)))
	if _, err := conn.Write(append(b, head...)); err != nil {
		return err
	}
	n, err := view.WriteTo(s.limit(ctx, conn))
	s.h.stats.snapshotBytes.Add(uint64(n))
	if err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if answer[0] != 0 {
		return fmt.Errorf("node %d did not stage the snapshot", to)
	}
	return nil
}

// limit paces what is written to w.
func (s *snapshotter) limit(ctx context.Context, w io.Writer) io.Writer {
	if s.h.opts.SnapshotBytesPerSecond == 0 {
		return w
	}
	return &pacedWriter{ctx: ctx, w: w, perSecond: s.h.opts.SnapshotBytesPerSecond, start: time.Now()}
}

// A pacedWriter keeps the mean rate since its start below perSecond.
type pacedWriter struct {
	ctx       context.Context
	w         io.Writer
	perSecond int64
	start     time.Time
	written   int64
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	due := time.Duration(float64(p.written) / float64(p.perSecond) * float64(time.Second))
	if wait := due - time.Since(p.start); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
	n, err := p.w.Write(b)
	p.written += int64(n)
	return n, err
}
