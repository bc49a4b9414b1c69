package meta

import (
	"errors"
	"fmt"
	"slices"
)

// Why a command changes nothing.
var (
	// ErrCluster: another cluster, or none yet, or one already.
	ErrCluster = errors.New("wrong cluster")
	// ErrFormat: a program of another time.
	ErrFormat = errors.New("formats do not meet")
	// ErrNodeID: an id that a new node cannot have.
	ErrNodeID = errors.New("node id is taken")
	// ErrNoNode: no such node. ErrRemoved: there was one.
	ErrNoNode  = errors.New("no such node")
	ErrRemoved = errors.New("node was removed")
	// ErrEpoch: not the epoch that the node runs under, or one that it did before.
	ErrEpoch = errors.New("wrong epoch")
	// ErrAddress: another node's.
	ErrAddress = errors.New("address is taken")
	// ErrTooFew: nodes for the replicas that shards are to have.
	ErrTooFew = errors.New("too few nodes")
	// ErrHolds: the node still has replicas.
	ErrHolds = errors.New("node holds replicas")
	// ErrNoShard: no such shard.
	ErrNoShard = errors.New("no such shard")
	// ErrOverlap: the span is another shard's.
	ErrOverlap = errors.New("span is taken")
	// ErrMoving: a move of the shard is under way, or another than the one named.
	ErrMoving = errors.New("a move is under way")
	// ErrInvalid: what the command says cannot be.
	ErrInvalid = errors.New("invalid")
	// ErrChanged: it was changed since, and the command may be a late repetition.
	ErrChanged = errors.New("changed meanwhile")
	// ErrFull: a limit of this package.
	ErrFull = errors.New("too many")
)

// refusals gives each error the code by which it travels: its place, plus one.
var refusals = []error{
	ErrCluster, ErrFormat, ErrNodeID, ErrNoNode, ErrRemoved, ErrEpoch, ErrAddress, ErrTooFew,
	ErrHolds, ErrNoShard, ErrOverlap, ErrMoving, ErrInvalid, ErrFull, ErrChanged,
}

// An Answer is what came of a command.
type Answer struct {
	ID   uint64 // of what was made or begun
	code uint64 // 0: done
	text string
}

// A RefusedError says why a command changed nothing. It wraps one of the errors of
// this package.
type RefusedError struct {
	Kind error
	Text string // what exactly, and what to do about it
}

func (e *RefusedError) Error() string { return fmt.Sprintf("meta: %v: %s", e.Kind, e.Text) }
func (e *RefusedError) Unwrap() error { return e.Kind }

// Err returns nil, or a *RefusedError.
func (a Answer) Err() error {
	if a.code == 0 {
		return nil
	}
	e := &RefusedError{Kind: ErrInvalid, Text: a.text}
	if a.code <= uint64(len(refusals)) {
		e.Kind = refusals[a.code-1]
	}
	return e
}

// Append encodes the answer.
func (a Answer) Append(b []byte) []byte { return appendText(appendNumbers(b, a.code, a.ID), a.text) }

// ParseAnswer reads the answer of a Machine.
func ParseAnswer(b []byte) (Answer, error) {
	r := &reader{b: b}
	a := Answer{code: r.uvarint(), ID: r.uvarint(), text: r.text(1 << 16)}
	if err := r.end(); err != nil {
		return Answer{}, fmt.Errorf("meta: answer of %d bytes: %w", len(b), err)
	}
	return a, nil
}

func done(id uint64) Answer { return Answer{ID: id} }

func refuse(kind error, format string, args ...any) Answer {
	i := slices.Index(refusals, kind)
	if i < 0 {
		panic(fmt.Sprintf("meta: %v is no refusal", kind))
	}
	return Answer{code: uint64(i) + 1, text: fmt.Sprintf(format, args...)}
}
