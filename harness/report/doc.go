// Package report turns results into something a person would rather look at than
// read: one HTML file, the same in Markdown for the summary of a job, and the
// same as JSON for programs.
//
// Build gathers what is known about a set of benchmark lines into a Model: the
// verdicts of package baseline, the samples of package results, and, where a run
// left artifacts, the distributions and series behind them. The three writers
// only print a Model, so that they cannot disagree.
//
// # Promises
//
//   - The verdict comes first, and what was not measured, was invalid or came
//     from another machine is said above every number.
//   - A number stands with its unit, the number of samples behind it, their
//     interval where there are enough of them, and the command that measures it
//     again.
//   - The HTML is one file that needs no network: its policy forbids it to load
//     anything. What the lines say can be read without scripts; the charts of
//     the artifacts need them, and each stands beside a table.
//   - Output is bounded: tables grow with the lines of the input, and charts are
//     made of at most MaxCharts cases, those with a baseline first.
//   - The same Model gives the same bytes.
//
// # Concurrency
//
// A Model is plain data. Build reads files and keeps nothing open.
package report
