package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/phantomdb/phantomdb/harness/results"
)

const module = "github.com/phantomdb/phantomdb"

// The budget of the quick mode, which a newcomer waits for, on two cores and
// without compiling.
const (
	quickCases  = 180
	quickLength = 250 * time.Millisecond
	quickTotal  = 5 * time.Minute
	// quickFactor is how far a case goes beyond its length: package testing
	// aims a fifth beyond it, and the warm-up takes a twentieth.
	quickFactor = 1.25
)

// A share is what the cases of a floor may last.
type share struct {
	floor string
	share time.Duration
}

// shares divides what the cases last among the floors; the root measures all of
// them together. Booting counts in the total alone: it is a time that was
// measured, on a machine that may have been busy, and the total leaves room.
var shares = []share{
	{"consensus", time.Minute}, {"cluster", 30 * time.Second}, {"txn", time.Minute}, {"query", time.Minute},
	{"", 20 * time.Second}, {"harness", 20 * time.Second},
}

// checkBudget adds up what the quick mode would take, from a run of every case
// once: the time of each package there is that of booting, and every case adds
// its length.
func checkBudget(file string, w io.Writer) (problems []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	took := map[string]time.Duration{}
	boot := time.Duration(0)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "ok" {
			continue
		}
		d, err := time.ParseDuration(f[2])
		if err != nil {
			return nil, fmt.Errorf("%s: %q: expected a package and its time: %w", file, strings.TrimSpace(line), err)
		}
		boot += d
	}
	cases := casesOf(file)
	for c := range cases {
		pkg, _, _ := strings.Cut(c, " ")
		took[floorOf(pkg)] += time.Duration(quickFactor * float64(quickLength))
	}
	total := boot
	for floor := range took {
		if !slices.ContainsFunc(shares, func(s share) bool { return s.floor == floor }) {
			problems = append(problems, fmt.Sprintf("quick mode: the cases of %s have no share of the time: expected one in shares", floor))
		}
	}
	slices.Sort(problems)
	for _, s := range shares {
		total += took[s.floor]
		if took[s.floor] > s.share {
			problems = append(problems, fmt.Sprintf("quick mode: the cases of %s take %v: expected at most %v", floorName(s.floor), took[s.floor].Round(time.Second), s.share))
		}
	}
	if len(cases) > quickCases {
		problems = append(problems, fmt.Sprintf("quick mode: %d cases: expected at most %d", len(cases), quickCases))
	}
	if total > quickTotal {
		problems = append(problems, fmt.Sprintf("quick mode: %v: expected at most %v", total.Round(time.Second), quickTotal))
	}
	fmt.Fprintf(w, "quick mode: %d cases of %d, %v of %v, of it %v to boot\n",
		len(cases), quickCases, total.Round(time.Second), quickTotal, boot.Round(time.Second))
	return problems, nil
}

// casesOf returns the cases of a run as "package name". The line of one kind of
// operation is of the case whose mix it belongs to.
func casesOf(file string) map[string]bool {
	lines := map[string]bool{}
	for _, row := range results.ReadFiles(file).Rows() {
		lines[row.Package+" "+row.Name] = true
	}
	cases := map[string]bool{}
	for line := range lines {
		if i := strings.LastIndex(line, "/kind="); i < 0 || !lines[line[:i]] {
			cases[line] = true
		}
	}
	return cases
}

func floorName(floor string) string {
	if floor == "" {
		return "the root package"
	}
	return floor
}

// floorOf is the first folder of a package in this module.
func floorOf(pkg string) string {
	floor, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/"), "/")
	return floor
}
