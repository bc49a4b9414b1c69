package lock

import (
	"slices"

	"github.com/phantomdb/phantomdb/txn/id"
)

// A Probe looks for a deadlock that goes over several tables, by edge chasing (Chandy,
// Misra and Haas, 1983): it follows who waits for whom, from a transaction that has
// begun to wait, and if it comes back there, it has gone round a cycle.
//
// It is pure. Whoever carries probes asks all tables in which the transaction that a
// probe is at may wait whom it waits for, takes a Step, and carries on what comes of it.
// Of several probes of one initiator that are at the same transaction, one is enough.
type Probe struct {
	// Path has the transactions that it has been to. The first is its initiator, and
	// each waited for the next one.
	Path []id.Key
}

// MaxPath bounds the path of a probe. Longer cycles are not found, which ends with the
// patience of those who wait.
const MaxPath = 32

// NewProbe returns a probe that is at its initiator.
func NewProbe(initiator id.Key) Probe { return Probe{Path: []id.Key{initiator}} }

// At is the transaction that a probe has come to.
func (p Probe) At() id.Key { return p.Path[len(p.Path)-1] }

// Step takes a probe on to those whom the transaction that it is at waits for. If its
// initiator is one of them it has found a deadlock, and returns the cycle. A cycle that
// the initiator is not in is left to those who are.
func (p Probe) Step(waitsFor []id.Key) (next []Probe, cycle []id.Key) {
	if slices.Contains(waitsFor, p.Path[0]) {
		return nil, slices.Clone(p.Path)
	}
	if len(p.Path) >= MaxPath {
		return nil, nil
	}
	for _, to := range waitsFor {
		if !slices.Contains(p.Path, to) {
			next = append(next, Probe{Path: append(slices.Clone(p.Path), to)})
		}
	}
	return next, nil
}

// Victim is who has to give way in a deadlock: the youngest, so that whoever finds the
// same cycle chooses the same one, and somebody gets ever older and is not chosen.
func Victim(cycle []id.Key) id.Key { return slices.MaxFunc(cycle, id.Key.Compare) }
