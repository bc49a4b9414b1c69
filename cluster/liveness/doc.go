// Package liveness tells nodes that live from those that do not, for one observer
// that all of them send a heartbeat to: the leader of the meta group.
//
// A [Detector] is a pure machine. Its driver tells it of every heartbeat and of what
// probes found, ticks it once an interval, and carries out the actions that come
// back. It follows three papers:
//
//   - Suspicion grows with silence, measured against how regularly a node was heard
//     before: phi accrual (Hayashibara and others, 2004). Phi 8 means that a node
//     which lives is as late once in 10^8 times.
//   - Who is not heard is not yet suspect: others are asked to probe it, as in SWIM
//     (Das and others, 2002). If one of them reaches it, it is unheard, which is the
//     network's fault, and stays what it was to everybody else.
//   - An observer that is slow itself finds everybody slow: local health, as in
//     Lifeguard (Dadgar and others, 2017). A tick that comes late, and a probe that not
//     even those who were asked answered, make all patience longer, up to
//     Options.MaxMultiplier times, and the time in which the detector did not run is
//     nobody's silence.
//
// # Conditions
//
//	alive --silence--> probed --no answer--> suspect --SuspectFor--> dead
//	  ^                   |                     |
//	  +---- heartbeat ----+---- probe answered: unheard
//
// Dead is final for an epoch of a node; it is watched again under a higher one.
//
// # Invariants
//
//  1. A node is declared suspect before it is declared dead, by at least SuspectFor.
//  2. Nobody is declared suspect or dead while half of all nodes or more, with the
//     observer among those that are well, are silent: that is about the observer.
//  3. Nobody is declared anything before Grace has passed since the detector began.
//  4. A node that lives in the eyes of any prober is not declared suspect.
//  5. The multiplier is between 1 and Options.MaxMultiplier.
//
// # Departures
//
//   - Heartbeats go to one observer instead of between random pairs: the cluster is
//     small, the observer has to know anyway, and its decisions are replicated
//     transitions instead of gossip. The price is a grace period when the observer
//     changes.
//   - Where half of all nodes are lost at one moment nobody is declared dead, and an
//     operator has to remove them. The price of invariant 2.
//
// # Concurrency
//
// A Detector is for one goroutine at a time.
package liveness
