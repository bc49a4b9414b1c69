// Command benchtext checks that benchstat reads a benchmark run completely:
//
//	go run ./.ci/benchtext bench.txt
//
// It fails if the text has a line that looks like a result and is none, if
// benchstat splits the results of one package and unit over several tables
// (which is what a configuration line that changes within a run does, and then
// nothing is compared), if a result is missing from its table, and if benchstat
// warns of anything but the number and the sameness of samples. Otherwise it
// prints benchstat's tables.
package main
