package harness

import (
	"fmt"
	"strings"
	"time"
)

// A Mode names a set of parameters. It sets those that the user did not, and
// where the user gave no -benchtime, how long a case lasts. It decides nothing
// else: the same code runs in every mode.
type Mode string

const (
	// ModeQuick validates everything in minutes: 250 ms a case. The default.
	ModeQuick Mode = "quick"
	// ModeStandard is for figures worth keeping, and the one that service
	// levels are judged by: 2 s a case, 5,000 operations in the cases of
	// transactions and queries, a minute in those that draw a series.
	ModeStandard Mode = "standard"
	// ModeStress has many clients meet on much data for 10 s a case.
	ModeStress Mode = "stress"
	// ModeLongRunning gives every case an hour, for what only time shows:
	// drift and leaks. Choose cases with -bench.
	ModeLongRunning Mode = "long-running"
)

// A preset is what a mode sets.
type preset struct {
	name                             Mode
	nodes, clients                   int
	transactions, queries, dataBytes int
	duration                         time.Duration     // of a case that draws a series
	lengths                          [classes]benchLen // of the cases of a class
}

// benchLen tells how long the cases of a class last: a fixed time, or what a
// parameter says.
type benchLen struct {
	fixed time.Duration
	by    string // a parameter: transactions, queries or duration
}

// modes lists the modes in the order of the help text. Nodes, clients and data
// are the same in all but stress, so that a case has the same name in them.
var modes = []preset{
	{
		name: ModeQuick, nodes: 20, clients: 20, transactions: 5000, queries: 5000, dataBytes: 1e6,
		duration: 250 * time.Millisecond,
		lengths:  [classes]benchLen{{fixed: 250 * time.Millisecond}, {fixed: 250 * time.Millisecond}, {fixed: 250 * time.Millisecond}, {by: "duration"}},
	},
	{
		name: ModeStandard, nodes: 20, clients: 20, transactions: 5000, queries: 5000, dataBytes: 1e6,
		duration: time.Minute,
		lengths:  [classes]benchLen{{fixed: 2 * time.Second}, {by: "transactions"}, {by: "queries"}, {by: "duration"}},
	},
	{
		name: ModeStress, nodes: 20, clients: 256, transactions: 50_000, queries: 50_000, dataBytes: 64e6,
		duration: time.Minute,
		lengths:  [classes]benchLen{{fixed: 10 * time.Second}, {by: "transactions"}, {by: "queries"}, {by: "duration"}},
	},
	{
		name: ModeLongRunning, nodes: 20, clients: 20, transactions: 5000, queries: 5000, dataBytes: 1e6,
		duration: time.Hour,
		lengths:  [classes]benchLen{{by: "duration"}, {by: "duration"}, {by: "duration"}, {by: "duration"}},
	},
}

// Modes returns the modes, from the shortest to the longest.
func Modes() []Mode {
	var list []Mode
	for _, m := range modes {
		list = append(list, m.name)
	}
	return list
}

func findMode(name Mode) (preset, bool) {
	for _, m := range modes {
		if m.name == name {
			return m, true
		}
	}
	return preset{}, false
}

// wantMode lists the modes for an error or a usage line.
func wantMode() string {
	var names []string
	for _, m := range Modes() {
		names = append(names, string(m))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// A class is a set of benchmarks that a mode gives one length.
type class int

const (
	classOther class = iota
	classTransactions
	classQueries
	classSeries
	classes // their number
)

// classOf sorts a top-level benchmark by its name. The names are the
// registration: whoever reads one knows how long its cases last.
func classOf(benchmark string) class {
	switch {
	case strings.HasPrefix(benchmark, "BenchmarkTransactions"):
		return classTransactions
	case strings.HasPrefix(benchmark, "BenchmarkQueries"):
		return classQueries
	case strings.HasSuffix(benchmark, "OverTime"):
		return classSeries
	}
	return classOther
}

// length returns the -benchtime of a class where the user gave none. A count or
// duration that the user set overrides the mode's fixed time for its class.
func (p *params) length(c class) string {
	by := p.preset().lengths[c].by
	switch {
	case c == classTransactions && p.given["transactions"]:
		by = "transactions"
	case c == classQueries && p.given["queries"]:
		by = "queries"
	}
	switch by {
	case "transactions":
		return fmt.Sprintf("%dx", p.transactions())
	case "queries":
		return fmt.Sprintf("%dx", p.queries())
	case "duration":
		return p.duration().String()
	}
	return p.preset().lengths[c].fixed.String()
}

// preset returns what the mode of p sets.
func (p *params) preset() preset {
	m, ok := findMode(p.mode)
	if !ok {
		panic(fmt.Sprintf("harness: mode %q: want %s", p.mode, wantMode()))
	}
	return m
}
