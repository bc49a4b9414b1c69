// Package lock is the lock table of one shard: who of the transactions has a key, and
// who stands in line for it. It is volatile; what must outlast a leader is in the log,
// and comes back by [Table.Restore].
//
// # Modes
//
//	           Shared  Update  Exclusive  Add
//	Shared      yes     yes       -        -
//	Update      yes      -        -        -
//	Exclusive    -       -        -        -
//	Add          -       -        -       yes
//
// An owner that asks for more than it has upgrades: then it has the weakest mode that is
// as strong as both.
//
// # Pending and prepared
//
// A lock is pending as long as only this table knows of it: its owner can be wounded.
// It is prepared once an intent for it is in the log or on the way there. An owner that
// has anything prepared is not wounded, whatever the policy; it should ask for no more
// locks, and whoever stands behind it has it pushed, see Options.Push. A wounded owner
// loses all its locks in this table at once, and is told so by its next request, by
// [Table.Check], and by Options.Wounded.
//
// # Policies
//
// Of two transactions the one that began earlier is older.
//
//   - WoundWait: who is older wounds pending owners that are in its way, who is
//     younger waits (Rosenkrantz, Stearns and Lewis, 1978).
//   - WaitDie: who is older waits, who is younger is refused (the same paper).
//   - NoWait: whoever would have to wait is refused.
//   - Detect: all wait. Deadlocks in the table are found when a request begins to wait,
//     and those over several by edge chasing, see [Probe]. The youngest gives way.
//
// # Lines
//
// A request is granted as soon as it conflicts with no lock of another owner and with no
// request ahead of it: nobody overtakes whom it conflicts with. Whoever gives up a lock
// hands it on, to all those at once who are then in nobody's way, and wakes no others.
//
//   - Under WaitDie and Detect the line is in the order of arrival, apart from
//     upgrades, which go ahead of those who have nothing yet: the others wait for the
//     owner's lock already, and it would wait for them. For the same reason the requests
//     of one owner for a key stand together.
//   - Under WoundWait the line is in the order of age. In the order of arrival an older
//     one would stand behind a younger one, which waits for a lock that the older
//     one does not conflict with, and whose owner may wait for the older one elsewhere:
//     a deadlock, or a wound for somebody who has no lock. A transaction keeps its age
//     when it is tried again, so it overtakes at last.
//
// # Invariants
//
//  1. No two owners have locks on a key in modes that conflict.
//  2. Every request that waits conflicts with another owner's lock on the key, or with
//     a request ahead of it.
//  3. Under WoundWait nobody waits for somebody younger, under WaitDie for somebody
//     older, unless that one is prepared.
//  4. Under NoWait nobody waits. Under Detect, nobody waits for itself in the table.
//  5. An owner whose locks were lost has none that is pending and waits for none.
//  6. Where no owner waits that is prepared, there is no deadlock in the table.
//
// # Departures
//
//   - Owners that have lost their locks are remembered up to a limit. Whoever may have
//     been forgotten must ask for [Table.Held] before it relies on a lock.
//   - Who is prepared is waited for by younger ones under WaitDie too: it waits for
//     nobody, and is pushed.
//
// # Concurrency
//
// A Table is safe for concurrent use. It has one mutex, and no goroutines.
package lock
