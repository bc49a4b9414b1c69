// Package harness turns one experiment into one benchmark line.
//
// A benchmark boots a system, hands Run an operation, and gets a closed loop of
// clients, a warm-up, latencies, cost per operation and a line that benchstat
// reads:
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
//	func BenchmarkPropose(b *testing.B) {
//		for _, clients := range harness.Axis("clients", 1, 64, 256) {
//			b.Run(harness.Name("clients", clients), func(b *testing.B) {
//				sys := boot(b, harness.DurableDir(b))
//				harness.Run(b, harness.Spec{Clients: clients, Counters: sys.Counters},
//					func(c *harness.Client) error { return sys.Put(c.Context, c.Rand.Uint64()) })
//			})
//		}
//	}
//
// With a Schedule the loop is open: operations start when they are due,
// whatever became of those before, and their latency counts from there. With a
// Mix they are of several kinds, each with a line of its own behind those of
// package testing; -bench does not know these lines, so choose kinds with
// benchfilter. Capacity searches the highest rate within a service level. The
// examples show each, and package load lists schedules, keys and sizes.
//
// Run is for operations of 5 us and more, Micro for shorter ones, and Events
// for benchmarks whose operation is one large event, such as an election, that
// times itself.
//
// # Promises
//
//   - One boot is one sample. Nothing is shared between samples unless the
//     caller shares it, so -count=10 means ten boots.
//   - With -benchtime=Nx exactly N operations are measured, and no client runs
//     dry long before the others.
//   - Time is counted until the last operation has come back.
//   - A run whose figures contradict each other is repeated once; then its line
//     says "1 invalid" and carries no other figure.
//   - A percentile is printed when at least ten values stand beyond it.
//   - A meter that is missing is absent from the line, not zero; so is the
//     processor time of an open loop, whose generator takes part of it.
//   - A durable case runs on a disk or not at all (see DurableDir).
//   - Standard output carries the benchmark format and nothing else; remarks go
//     to standard error behind a "#", which no tool takes for data.
//
// # Modes
//
// A mode is a set of parameters (PHANTOM_MODE). Where the user gave no
// -benchtime, it also decides how long a case lasts, by the name of its
// benchmark: those of BenchmarkTransactions and BenchmarkQueries, and whatever
// begins with these names, run a number of operations in the standard mode;
// those whose name ends in OverTime draw a series of a minute; all others last
// 2 s. Lengths differ, so Main runs package testing once for each of them.
//
// # Parameters
//
// A parameter is set by the environment (PHANTOM_CLIENTS=8) or by a flag behind
// the packages (go test -bench=. ./... -phantom.clients=8). The flag wins. A
// flag in front of the packages makes the go command test one directory and
// pass the rest to the test binary as plain arguments; Main refuses those.
//
// # Evidence
//
// The line is all that a run leaves unless more is asked for:
//
//   - go test -artifacts -outputdir=DIR keeps, for each sample, its record, the
//     latencies and meters of every interval, and totals of all meters. Each
//     process describes its machine and probes its disk and loopback once.
//     Package artifact describes the files and reads them.
//   - PHANTOM_PROFILE=cpu,heap,mutex,block,trace adds profiles of the measured
//     part alone, and says in the record that the figures were taken under them.
//   - PHANTOM_METRICS=127.0.0.1:9464 serves counters and quantiles of the
//     benchmark under way in the text of Prometheus at /metrics, and the
//     profiles of package net/http/pprof. Without a host it listens on the
//     loopback interface alone.
//   - The long-running mode looks for memory, goroutines and disk that grow, and
//     for rates and latencies that fade, by the trend of the last two thirds of
//     a run of at least 45 intervals: a remark on standard error, and a finding
//     in the record.
//
// An interval is a two-hundredth of the length asked for and at least 100 ms. Of
// a run whose length nobody knows before, intervals are joined in pairs whenever
// there are 400. To watch costs a client some 10 ns of processor time an
// operation, and 20 us an interval; a run that nobody watches pays for none of
// it.
//
// # Concurrency
//
// Parameters are fixed once Main has read them. Run, Events and Micro belong to
// the goroutine of their benchmark; an Op is called by many clients at once.
//
// # Imports
//
// This package and its rooms import no other part of the project. A system is
// handed in as functions, so that every floor can measure itself without
// compiling those above.
package harness
