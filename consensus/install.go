package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

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
