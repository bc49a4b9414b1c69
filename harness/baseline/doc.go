// Package baseline holds measured results against written expectations.
//
// There are three kinds. A level is a promise in absolute figures (less than
// 5 ms on average) and belongs to a mode, since a quick run measures too little
// to keep or break it. A band is a counter that does not depend on the machine
// (messages per operation) with what it may deviate. A law of scaling compares
// the rows of one benchmark over a growing key. Time is never a band: the same
// code differs by a factor from machine to machine, and is compared by benchstat
// between two runs on one of them.
//
// # Format
//
// A file is text that is reviewed like code. Entries are separated by empty
// lines; a line that begins with # is a comment; an indented line goes on with
// the one above. The first line of an entry is its kind and name, the rest are
// fields:
//
//	level consensus-latency
//	bench: consensus Propose/disk=sync/net=tcp/groups=1/clients=64/size=128
//	unit: avg-ns
//	limit: < 5ms
//	modes: standard
//	reason: what a floor above may count on
//
//	band propose-messages
//	bench: consensus Propose/disk=none/net=sim/groups=1/clients=1/size=128
//	unit: msgs/op
//	value: 8
//	allow: 2%
//	runs: 24
//	reason: two appends, two answers, and the commit to both
//
//	scaling linear
//	bench: cluster Scale/nodes=*
//	unit: ops/s
//	law: efficiency
//	from: 3
//	to: 50
//	limit: >= 0.9
//	modes: standard
//	reason: a cluster of 50 does 0.9 of the work of 50 nodes
//
// Bench names a package, by its import path or its folder in this module, and
// a benchmark without the number of processors. The value * of one key stands
// for every value. Numbers may be percentages, and times where the unit is one.
// Least (default 100) is the smallest number of operations of a sample that
// counts. Both laws of scaling span the numbers from and to, and points lists
// those that must have been measured between them. The format is our own because the usual ones either lack comments
// (JSON) or need a library that is larger than this parser.
//
// # Verdicts
//
// Pass and miss need samples; six and more have an interval, and where the limit
// lies inside it the verdict is that the samples do not tell. A band that allows
// nothing is kept by every sample or missed. What has not been measured is
// missing, and missing is not passing; so is a row of which some samples are
// invalid or were skipped, unless the others miss. Elections that a benchmark is
// not about make its row one that does not tell. A level is not applicable
// when no result of its modes is there at all.
//
// # Concurrency
//
// Everything here works on its arguments alone.
package baseline
