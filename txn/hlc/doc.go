// Package hlc tells transactions the time. A [Clock] is a hybrid logical clock
// (Kulkarni and others, 2014): it follows the node's wall clock, never goes back,
// never tells the same time twice, and is moved on by every timestamp that the node
// hears of. So what happened before something else, as far as any message can tell,
// has the lower timestamp, whatever the wall clocks say.
//
// # What wall clocks are trusted with
//
// Readers take what was written up to an offset bound above their timestamp for
// possibly earlier, and that is right only if no two clocks are further apart than the
// bound. It is checked, not believed:
//
//   - A timestamp further ahead of the wall clock than the bound is refused by
//     [Clock.Observe]: taking it in would carry one wrong clock to all nodes.
//   - [Offsets] estimates from round trips how far the clocks of other nodes are off.
//     A node whose clock is more than four fifths of the bound away from a majority
//     fences itself, before it is beyond it.
//
// Past the bound, transactions lose the order of real time and nothing else: what
// commits is still what some serial order would have made.
//
// # An oracle instead
//
// An [Oracle] is one source for all: a node that gives out timestamps from a window
// which it has had reserved durably, so that no other one, later, gives them out
// again. An [OracleClient] asks it for many at once. It needs no bound, and costs each
// batch a round trip; both are a [Source], so that the difference can be measured.
//
// # Concurrency
//
// All types are safe for concurrent use.
package hlc
