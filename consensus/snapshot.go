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

// A stagedSnapshot is a snapshot with what the Host will need of it. That is
// read where it was staged: of a full table of sessions it takes longer than a
// worker has.
type stagedSnapshot struct {
	Staged
	held held
}

// readStaged reads what s holds and compares it with what was announced. If it
// does not fit, s is discarded.
func (r *replica) readStaged(s Staged, meta *pb.SnapshotMetadata) (*stagedSnapshot, error) {
	held, err := r.readRows(s.State())
	switch {
	case err != nil:
	case len(held.conf.conf.GetVoters()) == 0:
		err = fmt.Errorf("group %d: no configuration at index %d", r.group, held.index)
	case !proto.Equal(held.conf.conf, meta.GetConfState()):
		err = fmt.Errorf("group %d: snapshot of index %d holds configuration %v, announced %v",
			r.group, held.index, held.conf.conf, meta.GetConfState())
	case held.index != meta.GetIndex() || held.term != meta.GetTerm():
		err = fmt.Errorf("group %d: snapshot of index %d term %d announced as %d, %d",
			r.group, held.index, held.term, meta.GetIndex(), meta.GetTerm())
	default:
		return &stagedSnapshot{Staged: s, held: held}, nil
	}
	return nil, errors.Join(err, s.Discard())
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

// receive stages a snapshot that another node streams.
func (s *snapshotter) receive(ctx context.Context, from NodeID, conn io.ReadWriteCloser) {
	defer func() { _ = conn.Close() }()
	if !tryAcquire(s.recv) {
		_, _ = conn.Write([]byte{1})
		return
	}
	defer func() { <-s.recv }()
	ctx, cancel := context.WithTimeout(ctx, s.h.opts.SnapshotTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := s.stage(from, conn); err != nil {
		s.h.logger.Warn("consensus: receive snapshot", "from", uint64(from), "err", err)
		_, _ = conn.Write([]byte{1})
	}
}

func (s *snapshotter) stage(from NodeID, conn io.ReadWriteCloser) error {
	g, m, err := readSnapshotHeader(conn)
	if err != nil {
		return err
	}
	r, err := s.h.replica(g)
	if err != nil {
		return err
	}
	if r.id != ReplicaID(m.GetTo()) {
		return fmt.Errorf("group %d: for replica %d, this node has %d", g, m.GetTo(), r.id)
	}
	if !wellFormed(m, r.id) {
		s.h.stats.refused.Add(1)
		return fmt.Errorf("group %d: snapshot of replica %d in term %d, expected one of another replica's, with a term and no entries",
			g, m.GetFrom(), m.GetTerm())
	}
	if !r.beginStaging() {
		return rejected(g, errors.New("closed, or at another snapshot"))
	}
	var staged *stagedSnapshot
	contents, err := r.sm.Stage(conn)
	if err == nil {
		staged, err = r.readStaged(contents, m.GetSnapshot().GetMetadata())
	}
	if err == nil {
		s.h.stats.snapshotsReceived.Add(1)
	}
	r.later(func() {
		r.staging = false
		if staged != nil {
			r.received(m, from, staged)
		}
		r.letGo()
	})
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte{0})
	return err
}

func readSnapshotHeader(r io.Reader) (GroupID, *pb.Message, error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, fmt.Errorf("snapshot header: %w", err)
	}
	n := binary.LittleEndian.Uint32(head[8:])
	if n > maxSnapshotHeader {
		return 0, nil, fmt.Errorf("snapshot header of %d bytes, expected at most %d", n, maxSnapshotHeader)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, fmt.Errorf("snapshot header: %w", err)
	}
	m := &pb.Message{}
	if err := proto.Unmarshal(b, m); err != nil {
		return 0, nil, fmt.Errorf("snapshot header: %w", err)
	}
	if m.GetType() != pb.MsgSnap || m.GetSnapshot().GetMetadata().GetIndex() == 0 {
		return 0, nil, fmt.Errorf("snapshot header holds a %v at index %d", m.GetType(), m.GetSnapshot().GetMetadata().GetIndex())
	}
	return GroupID(binary.LittleEndian.Uint64(head[:8])), m, nil
}

// received asks Raft whether it wants a staged snapshot.
func (r *replica) received(m *pb.Message, from NodeID, staged *stagedSnapshot) {
	if r.gone || r.install != nil {
		r.discard(staged)
		return
	}
	if !r.withinReach(m) {
		r.host.stats.refused.Add(1)
		r.discard(staged)
		return
	}
	r.hint(ReplicaID(m.GetFrom()), from)
	r.silent = 0
	r.wakeFor(ReplicaID(m.GetFrom()))
	r.incoming = staged
	_ = r.stepRaft(m, from)
	r.ready()
	if r.incoming != nil { // Raft has more than the snapshot
		r.discard(r.incoming)
		r.incoming = nil
	}
	r.touch()
}

// discard forgets a snapshot; the next one is staged when that is done.
func (r *replica) discard(s Staged) {
	r.staging = true
	r.aside("discard snapshot", s.Discard, func() { r.staging = false })
}

// An installing is a snapshot that Raft has accepted and that replaces the
// machine's contents.
type installing struct {
	msg     *pb.Message
	staged  *stagedSnapshot
	running bool
	behind  []*pb.Message // appends that follow it in the log
}

// installSnapshot installs the staged snapshot in the background, in the order
// that a crash at any point can be recovered from: first the machine, synced,
// then the log's reset, synced, then the responses.
func (r *replica) installSnapshot(m *pb.Message) {
	staged := r.incoming
	r.incoming = nil
	if staged == nil || staged.held.index != m.GetSnapshot().GetMetadata().GetIndex() {
		panic(fmt.Sprintf("consensus: group %d: Raft restores index %d, which is not staged", r.group, m.GetSnapshot().GetMetadata().GetIndex()))
	}
	r.install = &installing{msg: m, staged: staged}
	r.runInstall()
}

// runInstall begins to install as soon as nobody else works on the machine.
func (r *replica) runInstall() {
	if r.install == nil || r.install.running || r.flushing || r.applying || len(r.backlog) > 0 || r.gone {
		return
	}
	if r.host.stopping.Load() {
		return // the node stops: the log still has what it had
	}
	r.install.running = true
	r.busy++
	staged := r.install.staged
	r.host.wg.Go(func() {
		err := staged.Install(r.host.ctx)
		r.later(func() { r.letGo(); r.installed(err) })
	})
}

func (r *replica) installed(err error) {
	in := r.install
	if r.gone || r.host.dead.Load() || err != nil && r.host.stopping.Load() {
		return
	}
	at := &in.staged.held
	if err != nil {
		r.fail(fmt.Errorf("install snapshot at index %d: %w", at.index, err))
		return
	}
	r.adopt(at)
	old := r.log.HardState()
	hs := &pb.HardState{Term: new(old.GetTerm()), Vote: new(old.GetVote()), Commit: new(max(old.GetCommit(), at.index))}
	if in.msg.Term != nil {
		hs = &pb.HardState{Term: in.msg.Term, Vote: in.msg.Vote, Commit: new(max(in.msg.GetCommit(), at.index))}
	}
	r.settleSnapshot(at.index, at.term)
	r.shard.wrote()
	r.log.Reset(hs, at.index, at.term, &appendDone{r: r, responses: in.msg.GetResponses(), term: r.term})
	r.install = nil
	for _, m := range in.behind {
		r.append(m)
	}
	r.releaseReads()
	r.changeApplied()
	r.seekRemoval()
	r.touch()
}
