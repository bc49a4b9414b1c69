package lock

import "fmt"

// A Mode is what a lock is for. See the package comment for which go together.
type Mode uint8

// The modes. The zero Mode is none.
const (
	// Shared is for keys that are read.
	Shared Mode = iota + 1
	// Update is for keys that are read and probably written later: of two that upgrade
	// from Shared each waits for the other, of two with Update one waits from the start.
	Update
	// Exclusive is for keys that are written.
	Exclusive
	// Add is for reservations that commute: escrow counters.
	Add
)

// conflicts has the modes of others that a mode excludes, as bits.
var conflicts = [Add + 1]uint8{
	Shared:    1<<Exclusive | 1<<Add,
	Update:    1<<Update | 1<<Exclusive | 1<<Add,
	Exclusive: 1<<Shared | 1<<Update | 1<<Exclusive | 1<<Add,
	Add:       1<<Shared | 1<<Update | 1<<Exclusive,
}

// Conflicts reports whether two owners cannot have a lock in these modes at once.
func (m Mode) Conflicts(o Mode) bool { return conflicts[m]&(1<<o) != 0 }

// Join is the weakest mode that is as strong as both.
func (m Mode) Join(o Mode) Mode {
	switch {
	case m == o || o == 0:
		return m
	case m == 0:
		return o
	case m == Add || o == Add:
		return Exclusive
	default:
		return max(m, o)
	}
}

func (m Mode) String() string {
	switch m {
	case Shared:
		return "shared"
	case Update:
		return "update"
	case Exclusive:
		return "exclusive"
	case Add:
		return "add"
	default:
		return fmt.Sprintf("mode %d", uint8(m))
	}
}

// A Policy says who goes on when two transactions are in each other's way.
type Policy uint8

// The policies.
const (
	// WoundWait: who is older wounds, who is younger waits.
	WoundWait Policy = iota
	// WaitDie: who is older waits, who is younger is refused.
	WaitDie
	// NoWait: nobody waits.
	NoWait
	// Detect: all wait, and deadlocks are looked for.
	Detect
)

func (p Policy) String() string {
	switch p {
	case WoundWait:
		return "wound-wait"
	case WaitDie:
		return "wait-die"
	case NoWait:
		return "no-wait"
	case Detect:
		return "detect"
	default:
		return fmt.Sprintf("policy %d", uint8(p))
	}
}
