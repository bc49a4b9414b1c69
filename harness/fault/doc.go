// Package fault breaks a running system by plan.
//
// A Plan is a list of faults over a time, generated from a seed: the same seed
// and options give the same plan on every machine. Run applies it to a target
// through small interfaces, one for each kind of fault, so that a plan knows
// nothing of what it breaks.
//
// # Phases
//
// A plan has two phases, after the two kinds of property a system can have.
//
//   - Safety: faults come and go anywhere, within Options.MaxDown. The system
//     may stop; it must not be wrong.
//   - Liveness: the nodes of Plan.Core are healed and left alone, and the
//     others may stay broken to the end. If the core is a quorum the system
//     must make progress, however the safety phase left it.
//
// # Promises
//
// Everything that Run broke it heals, also when the context ends or a target
// returns an error. Run starts no goroutine, and its only clock is the standard
// one, so that it can run in a testing/synctest bubble. A plan is printed by
// its String method; with the seed, that is all it takes to repeat it. What a
// seed does not fix is the interleaving of the goroutines under test.
//
// # Concurrency
//
// A Plan is read-only once made. Two Runs must not share a target.
package fault
