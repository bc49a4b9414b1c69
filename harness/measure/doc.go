// Package measure holds the instruments of a measured run: the latency
// histogram and its log, the meters of process and machine, and the list of
// units a benchmark line may carry.
//
// # Promises
//
// A Histogram keeps three significant digits of every latency from 1 ns to one
// hour, and the exact count, sum, smallest and largest value. Recording
// allocates nothing after the first value. A percentile is stated only when
// enough values stand beyond it (see Percentiles), because the 99.9th
// percentile of fifty values is the largest of them under another name.
//
// A meter that a platform lacks is absent, never zero: CPU returns ok = false,
// and Meters does not list it. Linux tells most, by small files of /proc; other
// platforms tell what the Go runtime and getrusage know.
//
// Every unit is declared once, here, with the direction that is better. A line
// that carried an undeclared unit would be judged by nobody.
//
// # Concurrency
//
// A Histogram belongs to one goroutine. A Pool is safe for concurrent use, and
// each Recorder drawn from it belongs to one goroutine.
package measure
