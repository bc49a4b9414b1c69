// Package shard is the machine of a shard: what a floor above keeps in it, behind a
// fence that knows the shard's span.
//
// The shard's own log is the truth about its span. So what changes the span is a
// command in that log, and every other command says for which generation of it it was
// made: the fence lets none pass that was made for another. Whoever proposes such a
// command learns that it certainly did nothing, and what the span is now.
//
// # Split
//
// A Split stands alone in the log. Each replica that applies it narrows its span, and
// sets aside what is the new shard's: its store goes on holding that, behind the end of
// the span, and has whoever makes the replica of the new shard begin with it. A crash
// cannot lose the one without the other, for both are one step, and the machine that is
// opened after it offers again what is aside. That goes when the new shard has
// committed something, by which a majority of its replicas hold what it began with.
//
// # Merge
//
// The right one of two neighbours is frozen by the last command that it takes. When
// all its replicas have applied that, Subsume in the left one's log takes in what the
// replica of the right one on the same node holds. That replica must outlive the
// moment in which the left one is durable behind Subsume, and only its header says for
// certain which shard and which move it waits for. A merge is given up by a
// Fence in the left one's log, behind which no Subsume of before takes effect, and
// only then by a Thaw of the right one. A Fence that finds its move carried out is
// refused, though it may lead to the generation that is there. Sessions of the right
// one end with it.
//
// # Reads
//
// A read from the store is of the shard if [Machine.Header] is the same before and
// after it, contains the key, and is not frozen.
//
// # Concurrency
//
// A Machine follows the contract of consensus.StateMachine. Header may be called at
// any time.
package shard
