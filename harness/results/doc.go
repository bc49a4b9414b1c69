// Package results reads benchmark text into samples that a program can judge.
//
// The format is that of go.dev/design/14313-benchmark-format, and golang.org/x/perf
// parses it. What this package adds is suspicion: whoever compares numbers must
// know that none were lost on the way. Reading a file never fails at the first
// bad line; everything that is wrong is collected as a Problem, a sentence with
// file and line, and the caller decides what it may go on with.
//
// # Promises
//
//   - A line that looks like a result either becomes a sample or a problem.
//   - A value keeps the unit that the benchmark printed (avg-ns, not avg-sec).
//   - Samples, rows and problems come in the order of the text.
//   - A file larger than MaxFileBytes is refused, so memory is bounded by the
//     number of files.
//
// # Concurrency
//
// A Set does not change once Read has returned it.
package results
