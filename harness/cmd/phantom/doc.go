// Command phantom runs the benchmarks of PhantomDB and judges what they print.
//
//	go tool phantom run                  # the quick suite, with progress and a table
//	go tool phantom check results.txt    # against levels, bands and scaling
//	go tool phantom report results.txt   # a page, a summary or JSON for people
//	go tool phantom bands results.txt    # counter bands from 20 runs and more
//	go tool phantom check -h             # what a subcommand does, with examples
//
// Standard output carries the result and nothing else, so that it can be piped;
// with --json it is one JSON value. Progress and remarks go to standard error.
//
// # Exit status
//
//	0  done; for check: everything that applies is kept
//	1  an expectation is missed, or go test failed
//	2  bad input: arguments, files that cannot be relied on
//	3  what is needed for a verdict is missing or within noise
//	130  interrupted
//
// Any other status is that of go test, passed on.
//
// # How it is built
//
// A subcommand is a file with a function that takes a console and arguments and
// returns the exit status; nothing but main touches the process, so that tests
// call the functions.
package main
