package baseline

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/phantomdb/phantomdb/harness/results"
)

// counters are the units that a band can be derived for.
var counters = []string{
	"exact-fsyncs/op", "exact-msgs/op", "exact-wire-B/op", "exact-disk-B/op",
	"fsyncs/op", "msgs/op", "wire-B/op", "disk-B/op", "B/op", "mallocs/op",
}

// A band allows half as much again as the samples deviated, and never less than
// a fiftieth: a run of the same code on another day must stay inside.
const (
	allowFactor = 1.5
	allowLeast  = 0.02
	// allowMost is the widest band worth writing: beyond it the counter hangs
	// on timing, and says little about the code.
	allowMost = 0.10
)

// Next to an operation that allocates nothing, timers of the system and the
// runtime still do, at any moment and some tens at once. A hundredth of an
// allocation covers that from ten thousand operations on, and is far below the
// change that a band of 0 is there for.
const (
	strayMallocs = 0.01
	strayLeast   = 10_000
)

// Derive writes a band for every counter of every row with at least 20
// samples, in the format of a baseline file, and tells as comments which rows
// and counters it left out and why. The value is the median. Whoever takes a
// band over writes its reason. It returns the number of bands.
func Derive(w io.Writer, set *results.Set) (bands int, err error) {
	for _, row := range set.Rows() {
		if len(row.Samples) < minRuns {
			if _, err := fmt.Fprintf(w, "# %s: %d samples: expected at least %d\n\n", row.Name, len(row.Samples), minRuns); err != nil {
				return bands, fmt.Errorf("baseline: derive: %w", err)
			}
			continue
		}
		for _, unit := range counters {
			text := deriveBand(row, unit)
			if strings.HasPrefix(text, "band ") {
				bands++
			}
			if _, err := io.WriteString(w, text); err != nil {
				return bands, fmt.Errorf("baseline: derive: %w", err)
			}
		}
	}
	return bands, nil
}

// deriveBand returns the text of one band, or a comment that there is none.
func deriveBand(row *results.Row, unit string) string {
	values := row.Values(unit)
	if len(values) < minRuns {
		return "" // the benchmark has no such counter
	}
	value := results.Summarize(values).Median
	off := max(slices.Max(values)-value, value-slices.Min(values))
	shortest := shortestOf(row)
	if unit == "mallocs/op" && value+off <= strayMallocs {
		if shortest < strayLeast {
			return fmt.Sprintf("# %s: %s is about 0, in samples of %d operations: expected at least %d: no band\n\n", row.Name, unit, shortest, strayLeast)
		}
		return bandText(row, unit, 0, fmt.Sprint(strayMallocs), len(values), strayLeast)
	}
	switch {
	case strings.HasPrefix(unit, "exact-"):
		shortest = 1
	case shortest >= defaultLeast:
		shortest = 0
	}
	if value == 0 {
		if off > 0 {
			return fmt.Sprintf("# %s: %s is mostly 0 and at most %.4g: no band\n\n", row.Name, unit, off)
		}
		return bandText(row, unit, 0, "0", len(values), shortest)
	}
	if strings.HasPrefix(unit, "exact-") {
		if off > 0 {
			return fmt.Sprintf("# %s: %s deviates by %.4g and is not exact: no band\n\n", row.Name, unit, off)
		}
		return bandText(row, unit, value, "0", len(values), shortest)
	}
	share := max(off/value*allowFactor, allowLeast)
	if share > allowMost {
		return fmt.Sprintf("# %s: %s deviates by %.1f %% from its median %.4g: no band\n\n", row.Name, unit, 100*off/value, value)
	}
	return bandText(row, unit, value, fmt.Sprintf("%.0f%%", math.Ceil(100*share)), len(values), shortest)
}

// shortestOf returns the operations of the shortest sample.
func shortestOf(row *results.Row) int {
	shortest := row.Samples[0].Iterations
	for _, s := range row.Samples {
		shortest = min(shortest, s.Iterations)
	}
	return shortest
}

// bandText writes a band. A least of 0 is left to the default. The value is
// whole: a digit less would miss the samples that it came from.
func bandText(row *results.Row, unit string, value float64, allow string, runs, least int) string {
	short := strings.TrimPrefix(row.Package, module+"/")
	field := ""
	if least > 0 {
		field = fmt.Sprintf("least: %d\n", least)
	}
	return fmt.Sprintf("band %s-%s\nbench: %s %s\nunit: %s\nvalue: %s\nallow: %s\nruns: %d\n%sreason:\n\n",
		wordOf(row.Name), wordOf(unit), short, row.Name, unit, strconv.FormatFloat(value, 'f', -1, 64), allow, runs, field)
}

// wordOf makes one word of a name.
func wordOf(name string) string {
	return strings.ToLower(strings.NewReplacer("/", "-", "=", "-").Replace(name))
}
