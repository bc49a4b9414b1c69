// Package artifact holds what a benchmark leaves behind beside its line: the
// types of the records, one writer and one reader for them.
//
// Under go test -artifacts every sample has a directory of its own:
//
//	sample.json   name, values and conditions of one benchmark line
//	latency.hlog  latencies of each interval, in the log format of HdrHistogram
//	series.json   ops, quantiles and meters of each interval
//	meters.json   every meter over the measured part
//	cpu.pprof …   profiles, where they were asked for
//
// A case that could not be measured leaves missing.json instead, and each
// process one environment.json, to which its samples refer by id. Where the
// directories lie is the business of package testing; Load finds the records by
// their names, however deep.
//
// # Promises
//
//   - A record is complete or not there: it is written aside and renamed.
//   - What was not measured is absent, or null in a column, and never zero.
//   - A sample can be bound to its line in the text: Tree.Bind compares
//     package, name and the values as printed.
//   - A reader ignores fields that it does not know, so that a writer may add
//     some, and refuses a schema that it does not know.
//   - Reading is safe on files of strangers: sizes and counts are bounded,
//     symbolic links and pipes are not followed, and an error names the file,
//     what stands there and what was expected.
//
// # Concurrency
//
// The values are plain data. A Tree belongs to one goroutine.
package artifact
