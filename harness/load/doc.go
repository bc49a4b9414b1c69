// Package load says what a workload asks for and when: arrival schedules, the
// distributions of keys and sizes, and mixes of operations.
//
// A Schedule gives the moments at which operations are meant to start, before
// anybody knows how long they take. Measured from these moments, an operation
// that waits behind a stalled one is charged for the wait. A client that starts
// the next operation when its last one has come back never sees it: it stops
// asking while the system stalls. This is coordinated omission.
//
//	load.Poisson(5000)                 arrivals of many independent users
//	load.Ramp(100, 10_000)             from one rate to another over the run
//	load.Step(1000, 2000, 4000)        pieces of equal length
//	load.Spike(1000, 10_000, 0.1)      a tenth of the run at ten times the rate
//	load.Sine(1000, 800, 3)            three waves
//	load.Replay(file)                  as recorded
//
// # Promises
//
//   - Everything follows from values and seeds: no clock, no goroutine, no
//     random source of its own. The same seed gives the same workload.
//   - A schedule is generated as it is read and never held in memory, but for
//     a recorded one, whose size is bounded.
//   - Drawing a key, a size or a kind allocates nothing.
//
// # Concurrency
//
// Schedules, distributions and mixes do not change and may be shared. What
// draws from them, a *rand.Rand or a Starts, belongs to one goroutine.
package load
