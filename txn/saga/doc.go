// Package saga runs what takes too long to be one transaction: sagas.
//
// A saga is a graph of steps, a [Definition]. Each step is a transaction of package txn,
// or a call of something outside; if one fails, those that were done are taken back, in
// the opposite order. An [Orchestrator] runs sagas. What they have done is in rows, so
// that another one goes on with them when it dies.
//
// # Rows
//
// All rows of a saga lie behind the prefix that its [ID] calls home, where a shard can
// have them together with what the saga writes:
//
//	header  what it is, its token, its state, its steps at the last turn
//	open    it is not finished: what others look for
//	step    how far a step is: at home, or where Step.At says
//
// # The way of a saga
//
// A step on rows is one transaction. It reads the header, which must have the token and
// the state that the orchestrator knows; does what the step does; and writes that it was
// done, beside the step's own writes if At says where those are. It is serializable, so
// that it commits only if the header is still the same then. The header
// itself is written by the first step's transaction, which finds that there is none, by
// the first that takes something back, and by the last. So a saga of n steps on rows is
// n transactions:
//
//   - one that fails at step k, 2(k-1), and one that fails at once, 1;
//   - a call is two: that it is about to be made, and what came of it; one that is
//     parked, three;
//   - a graph with several ends takes one more if these are done at the same time, and
//     so does a first step that does not succeed at once.
//
// Each costs a read of the header more than the step, which is a message to its shard,
// and a second message if the step is on another shard. Only what writes the header and
// is elsewhere than at home has two shards: the last step, if it is there.
//
// # Failures
//
// Errors of steps on rows are tried again, as by their Retry, unless they are Permanent
// or say that a counter would leave its bounds. A saga in which a step gives up turns
// back: a step is taken back when all that depend on it are, and steps that are
// independent of each other at the same time. Behind the pivot nothing turns back; what
// fails there for good, or fails to be taken back, is Stuck until [Orchestrator.Retry].
//
// A call that is not answered, or answered by an error that does not say what happened,
// is Parked: nobody guesses. The step's check is asked until it tells, or somebody says
// what happened with [Orchestrator.Resolve]. That a call is about to be made is written
// before; an orchestrator that finds so, and did not make the call itself, parks it.
//
// # Turns
//
// Each change of hands makes the saga's token one more, and what was begun with another
// token cannot commit any more, for it has read the header. It is that which keeps two
// orchestrators from doing the same, at any clock; leases only say when it is polite to
// take over. The same helps an orchestrator that does not learn whether its transaction
// committed: it takes its own saga over, after which that cannot commit if it has not,
// and reads what is there. An outcome that is not known is never taken for one.
//
// # Locks
//
// Between its steps others see what a saga has done so far. With [Context.Lock] it keeps
// keys until its end; [Locked] finds that out in any transaction. It is the semantic
// lock of Garcia-Molina: it keeps out those who ask.
//
// # Sources
//
// Sagas, compensation, and going forward from a point on: Garcia-Molina and Salem,
// Sagas, 1987. Pivots: Mehrotra and others, flexible transactions, 1992. Semantic locks,
// and what else helps against the lack of isolation: Frank and Zahle, 1998. Fencing
// tokens: Gray and Cheriton's leases, 1989, with what Chubby (2006) calls sequencers.
//
// # Departures
//
//   - There is no log that a saga is replayed from: rows say what is done, and functions
//     of steps need be pure only over their Tx.
//   - That a step has failed is not written before the saga turns back for it. A crash in
//     between tries it again, and it may succeed. For the same reason attempts of steps on
//     rows are forgotten with their orchestrator. It saves a transaction for each failure.
//   - There is no lease for each saga but one for each orchestrator, or each saga would
//     be a write in every renewal.
//   - A finished saga keeps the rows of its steps until it is forgotten: to delete them
//     in its last transaction would be a write for each.
//
// # Concurrency
//
// An Orchestrator and a Saga are safe for concurrent use. A Context is for its call.
// Functions of a definition are called by many sagas at once.
package saga
