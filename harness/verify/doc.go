// Package verify decides whether what clients saw could have been one register
// per key, read and written one operation at a time.
//
// Clients record each call in a History: when it was made, when it was
// answered, and the answer. Check looks for an order of the operations that
// respects those times and explains every answer, which is linearizability
// (Herlihy and Wing, 1990). The search is that of the porcupine library; keys
// are checked one by one, since a history is linearizable exactly if each
// object's part of it is.
//
// # Outcomes
//
// A call ends in one of three ways. Answered: it happened between call and
// answer. Failed: it certainly never happened, and is forgotten. Unknown, which
// is also what a call without an end is: it may have happened at any time from
// the call on, or never. A read of unknown outcome says nothing.
//
// A caller that reports a failure which did happen, or an answer it did not
// get, makes the check worthless; in doubt the outcome is unknown.
//
// # Concurrency
//
// A History is safe for concurrent use; a Call belongs to its client. A client
// makes one call at a time, and after an unknown outcome it may make the next.
//
// # Bounds
//
// A History holds a limited number of operations and says so when it is full.
// The search takes exponential time in the number of operations that overlap on
// one key, above all those of unknown outcome: spread a load over keys. It ends
// at a deadline with ErrUndecided, which is not a pass.
package verify
