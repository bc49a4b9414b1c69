package commit

import (
	"fmt"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A Protocol says how a transaction commits at several shards.
type Protocol uint8

// The protocols.
const (
	OneRound Protocol = iota
	TwoPhase
)

func (p Protocol) String() string {
	if p > TwoPhase {
		return fmt.Sprintf("protocol %d", uint8(p))
	}
	return [...]string{"one-round", "two-phase"}[p]
}

// A Plan is what a Coordinator is to commit.
type Plan struct {
	Txn      id.Txn
	Protocol Protocol
	// Parts are the keys of the shards that it writes, the anchor in one of them. No
	// key is in two.
	Parts [][]string
	// TS is the lowest timestamp at which it may commit, and the one up to which what
	// it read is known not to have changed.
	TS hlc.Timestamp
	// Floating: it writes all that it read, so that its intents protect it.
	Floating bool
}
