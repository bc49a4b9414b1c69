package measure

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Unit is the name under which a benchmark line states a value, and the
// direction in which that value gets better.
type Unit struct {
	Name   string
	Better string // "higher" or "lower"
}

// units holds every unit of our own. The package testing knows ns/op, MB/s,
// B/op and allocs/op by itself, and their directions are built into the tools.
//
// A percentile ends in -ns and not in -ns/op, since it is no mean per
// operation; benchstat scales both.
var units = []Unit{
	{"ops/s", "higher"},
	{"entries/s", "higher"},
	{"avg-ns", "lower"},
	{"min-ns", "lower"},
	{"p50-ns", "lower"},
	{"p90-ns", "lower"},
	{"p99-ns", "lower"},
	{"p99.9-ns", "lower"},
	{"max-ns", "lower"},
	{"offered-ops/s", "higher"},
	{"lag-avg-ns", "lower"},
	{"lag-p99-ns", "lower"},
	{"invalid", "lower"},
	{"capacity-ops/s", "higher"},
	{"capacity-limit-ops/s", "higher"},
	{"steps", "lower"},
	{"confirms", "lower"},
	{"cpu-ns/op", "lower"},
	{"fsyncs/op", "lower"},
	{"disk-B/op", "lower"},
	{"wire-B/op", "lower"},
	{"msgs/op", "lower"},
	{"errors/op", "lower"},
	{"mallocs/op", "lower"},
	{"elections", "lower"},
	{"load-cv", "lower"},
	{"commit-ns", "lower"},
	{"applied-ns", "lower"},
	{"applied-p99-ns", "lower"},
	{"detect-ns", "lower"},
	{"vote-ns", "lower"},
	{"ready-ns", "lower"},
	{"suspect-ns", "lower"},
	{"moves", "lower"},
	{"excess", "lower"},
	{"plan-ns", "lower"},
	{"uneven", "lower"},
	{"uneven-before", "lower"},
	{"cpu-ns/node-s", "lower"},
	{"beats/node-s", "lower"},
	{"frames/pair-beat", "lower"},
	{"false-dead", "lower"},
	{"false-fence", "lower"},
	{"learner-ns", "lower"},
	{"promote-ns", "lower"},
	{"remove-ns", "lower"},
	{"dip", "lower"},
	{"cpu-ns/group-s", "lower"},
	{"heap-B/replica", "lower"},
	{"peak-heap-B", "lower"},
	{"peak-log-B", "lower"},
	{"verified-ops", "higher"},
	{"rounds/op", "lower"},
	{"proposals/op", "lower"},
	{"entries/op", "lower"},
	{"retries/op", "lower"},
	{"aborts/op", "lower"},
	{"wait-ns", "lower"},
	{"fairness", "higher"},
	// What a protocol costs in steps that no timing has a part in.
	{exactPrefix + "msgs/op", "lower"},
	{exactPrefix + "wire-B/op", "lower"},
	{exactPrefix + "fsyncs/op", "lower"},
	{exactPrefix + "disk-B/op", "lower"},
}

// exactPrefix begins the units whose values are the same in every sample, so
// that the tools show a difference of one and warn when there is noise. A
// counter earns it by a hundred repetitions without a deviation.
const exactPrefix = "exact-"

// builtin are the units that package testing and the tools declare.
var builtin = []string{"ns/op", "MB/s", "B/op", "allocs/op"}

// Units returns the units of our own, in the order they are declared.
func Units() []Unit { return slices.Clone(units) }

// Known reports whether a line may carry the unit.
func Known(unit string) bool {
	return slices.Contains(builtin, unit) ||
		slices.ContainsFunc(units, func(u Unit) bool { return u.Name == unit })
}

// WriteUnits declares the units in the benchmark format. The declarations may
// appear several times in one text as long as they agree, which is why every
// test binary can print them.
func WriteUnits(w io.Writer) error {
	buf := bufio.NewWriter(w)
	for _, u := range units {
		assume := ""
		if strings.HasPrefix(u.Name, exactPrefix) {
			assume = " assume=exact"
		}
		fmt.Fprintf(buf, "Unit %s better=%s%s\n", u.Name, u.Better, assume)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("measure: units: %w", err)
	}
	return nil
}
