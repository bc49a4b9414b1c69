// Package latch keeps requests that touch the same keys apart while they are evaluated,
// replicated and applied: for microseconds to milliseconds. What a transaction keeps
// until its end are locks, which are another package's.
//
// A request asks for all its latches at once, in one of three modes:
//
//	        Read  Add  Write
//	Read     yes   -     -
//	Add       -   yes    -      Add: increments, which commute
//	Write     -    -     -
//
// A latch is on one key or on a span of keys.
//
// # Promises
//
//   - Whoever conflicts with an earlier request, be it granted or waiting, waits until
//     that one has gone. So nobody starves, and since a request takes its place on all
//     its keys in one step, there is an order in which all can go on: no deadlock.
//   - Whoever conflicts with nobody waits for nobody.
//
// # How it is done
//
// Points stand in one queue for each key, whose granted part is a prefix of one mode:
// coming and going cost the same however long the queue is. Points and spans count
// each other one by one. Spans are few, and every point looks at all of them.
//
// # Invariants
//
//  1. In the queue of a key exactly the longest prefix whose latches are compatible
//     with each other is clear: no other point is in the way of those.
//  2. A set's count is that of its points that are not clear plus that of the pairs of
//     one of its latches and a conflicting one of an earlier set, one or both of which
//     are spans. It is granted exactly if the count is 0.
//  3. No empty queue is kept, apart from that of the key "".
//
// # Concurrency
//
// A Manager is safe for concurrent use. A Guard may be released by any goroutine.
package latch
