package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

func bandsCommand() *command {
	return &command{
		name: "bands", usage: "RESULTS...", run: bands,
		summary: "derive bands of counters from 20 runs and more",
		help: `Bands prints a band for every counter (syncs, messages, bytes and allocations
per operation) of every benchmark with at least 20 samples: its median, and half
as much again as the samples deviated from it. Counters that hang on timing are
left out with a remark. Add a reason to each that you keep; without one the
file is refused.

Example:

  go test -run='^$' -bench=Codec -count=20 ./consensus/transport > results.txt
  go tool phantom bands results.txt > my.baseline

The samples that a run had taken when it failed or was cut count like any other.

Exit status: 0, or 2 if the input cannot be relied on, or 3 if there was no
benchmark with enough samples and a steady counter, or a run is not complete.
`,
	}
}

func bands(_ context.Context, c *console, self *command, args []string) int {
	fs := flag.NewFlagSet("bands", flag.ContinueOnError)
	files, err := self.parse(c, fs, args)
	if err != nil {
		return statusOf(err)
	}
	if len(files) == 0 {
		fmt.Fprintln(c.err, "phantom bands: no files: expected benchmark text such as results.txt; phantom bands -h explains")
		return statusBadInput
	}
	set := results.ReadFiles(files...)
	bad := false
	for _, p := range set.Problems {
		fmt.Fprintf(c.err, "phantom bands: %v\n", p)
		bad = bad || p.Kind.Bad()
	}
	if bad {
		return statusBadInput
	}
	n, err := baseline.Derive(c.out, set)
	switch {
	case err != nil:
		complain(c, "bands", err)
		return statusBadInput
	case n == 0 || len(set.Problems) > 0:
		return statusMissing
	}
	return statusOK
}
