package consensus

import (
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"
)

// begin gives a machine that holds nothing the configuration with which the
// group was created. The log kept it, so that creating a replica costs no
// flush of its machine.
func (r *replica) begin(state State) (State, error) {
	first, err := r.log.FirstIndex()
	if err != nil {
		return state, err
	}
	if state.Index >= initialIndex || first != initialIndex+1 {
		return state, nil
	}
	b := &Batch{Index: initialIndex, Term: initialTerm, Rows: []Row{{Key: rowConfig, Value: r.log.Meta()}}}
	if err := r.sm.Apply(b, nil); err != nil {
		return state, fmt.Errorf("consensus: group %d: first batch: %w", r.group, err)
	}
	return State{Index: b.Index, Term: b.Term, Rows: b.Rows}, nil
}

// held is what a machine holds for the Host.
type held struct {
	index, term uint64
	conf        *config
	sessions    *sessions
}

// readRows takes the Host's rows out of a machine's state, at open and from a
// snapshot. It may run on any goroutine.
func (r *replica) readRows(state State) (held, error) {
	at := held{index: state.Index, term: state.Term, conf: &config{conf: &pb.ConfState{}}, sessions: &sessions{}}
	for _, row := range state.Rows {
		var err error
		if string(row.Key) == string(rowConfig) {
			at.conf, err = r.host.configs.decode(row.Value)
		} else {
			err = at.sessions.load(row)
		}
		if err != nil {
			return held{}, fmt.Errorf("consensus: group %d: row %q at index %d: %w", r.group, row.Key, state.Index, err)
		}
	}
	if err := at.sessions.loaded(); err != nil {
		return held{}, fmt.Errorf("consensus: group %d: rows at index %d: %w", r.group, state.Index, err)
	}
	return at, nil
}

// adopt puts in force what the machine now holds.
func (r *replica) adopt(at *held) {
	r.sessions = at.sessions
	r.setConfig(at.conf)
	r.applied.Store(at.index)
	r.reached.Store(at.index)
}

// setConfig puts a configuration in force.
func (r *replica) setConfig(c *config) {
	r.host.peers.refer(c, r.conf)
	r.conf = c
	r.published.Store(c)
}

// reconcile compares machine and log at open. A machine ahead of its log was
// interrupted between the two steps of installing a snapshot, and the log's
// reset is finished; a log that begins behind the machine has lost entries.
func (r *replica) reconcile(state State) error {
	first, err := r.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := r.log.LastIndex()
	if err != nil {
		return err
	}
	if state.Index+1 < first {
		return fmt.Errorf("consensus: group %d: machine is at index %d but the log begins at %d: entries between them are lost",
			r.group, state.Index, first)
	}
	if state.Index == 0 {
		return nil
	}
	if state.Index <= last {
		if term, err := r.log.Term(state.Index); err != nil {
			return err
		} else if term == state.Term {
			return nil
		}
	}
	hs := r.log.HardState()
	term, vote := hs.GetTerm(), hs.GetVote()
	if state.Term > term {
		term, vote = state.Term, 0
	}
	done := make(waitWritten, 1)
	r.log.Reset(&pb.HardState{Term: &term, Vote: &vote, Commit: new(state.Index)}, state.Index, state.Term, done)
	return r.host.await(done)
}
