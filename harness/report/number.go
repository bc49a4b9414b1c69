package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// A Number is a value as people read it: digits, and the unit apart so that a
// page can print it thinner.
type Number struct{ Digits, Unit string }

// String puts a narrow space that does not break between both, as the
// International System of Units asks for.
func (n Number) String() string {
	if n.Unit == "" {
		return n.Digits
	}
	return n.Digits + "\u202f" + n.Unit
}

// prefixes are decimal, for rates and bytes.
var prefixes = []struct {
	size float64
	name string
}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}

// number prints a value of a unit of the benchmark lines to three digits, in the
// multiple of the unit that fits. The part of a unit behind a slash is left to
// the title above it, but for rates.
func number(v float64, unit string) Number {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Number{"?", ""}
	}
	switch {
	case strings.HasPrefix(unit, "exact-") && math.Abs(v) < 1e6:
		// Every digit of these counts.
		n := Number{strconv.FormatFloat(v, 'f', -1, 64), ""}
		if isBytes(unit) {
			n.Unit = "B"
		}
		return n
	case nanoseconds(unit):
		return duration(v)
	case slices.Contains(shares, unit):
		if v > 0 && v < 5e-4 {
			return Number{"< 0.1", "%"}
		}
		return Number{fmt.Sprintf("%.1f", 100*v), "%"}
	case unit == "MB/s":
		return Number{scale3(v), "MB/s"}
	case isBytes(unit):
		return prefixed(v, "B")
	case strings.HasSuffix(unit, "/s"):
		return prefixed(v, "/s")
	case math.Abs(v) >= 1e4:
		return prefixed(v, "")
	}
	return Number{scale3(v), ""}
}

// shares are units that are read in percent, like the limits on them.
var shares = []string{"load-cv", "dip", "uneven", "uneven-before"}

// nanoseconds reports whether a unit counts them.
func nanoseconds(unit string) bool {
	return unit == "ns" || strings.HasSuffix(unit, "-ns") || strings.HasPrefix(unit, "ns/") || strings.Contains(unit, "-ns/")
}

// isBytes reports whether a unit counts them.
func isBytes(unit string) bool {
	return unit == "B" || strings.HasSuffix(unit, "-B") || strings.HasPrefix(unit, "B/") || strings.Contains(unit, "-B/")
}

// duration prints nanoseconds.
func duration(ns float64) Number {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if math.Abs(ns) >= u.size*0.9995 {
			return Number{scale3(ns / u.size), u.name}
		}
	}
	return Number{scale3(ns), "ns"}
}

func prefixed(v float64, unit string) Number {
	for _, p := range prefixes {
		if math.Abs(v) >= p.size*0.9995 {
			return Number{scale3(v / p.size), p.name + unit}
		}
	}
	return Number{scale3(v), unit}
}

// scale3 prints three significant digits and never an exponent for what people
// compare.
func scale3(v float64) string {
	a := math.Abs(v)
	switch {
	case v == 0:
		return "0"
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.9995:
		return fmt.Sprintf("%.2f", v)
	case a >= 1e-4:
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// round3 keeps the digits that a chart can show, so that files stay small.
func round3(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-3)
	if unit < 1 {
		return math.Round(v/unit) / math.Round(1/unit)
	}
	return math.Round(v/unit) * unit
}

// titles are what columns are called where the unit itself would not tell.
var titles = map[string]string{
	"ops/s": "operations", "entries/s": "entries", "MB/s": "data", "ns/op": "time per op",
	"avg-ns": "mean", "min-ns": "min", "p50-ns": "p50", "p90-ns": "p90", "p99-ns": "p99", "p99.9-ns": "p99.9", "max-ns": "max",
	"cpu-ns/op": "CPU", "fsyncs/op": "fsyncs", "disk-B/op": "disk", "wire-B/op": "wire", "msgs/op": "messages",
	"allocs/op": "allocations", "mallocs/op": "allocations", "B/op": "allocated", "errors/op": "errors", "cpu-ns/group-s": "CPU per group and second",
	"heap-B/replica": "heap per replica", "peak-heap-B": "peak heap", "peak-log-B": "peak log", "load-cv": "load variation",
}

// title names a unit at the head of a column.
func title(unit string) string {
	if t, ok := titles[unit]; ok {
		return t
	}
	if rest, ok := strings.CutPrefix(unit, "exact-"); ok {
		return title(rest) + ", exact"
	}
	if rest, ok := strings.CutSuffix(unit, "-ns"); ok {
		return strings.ReplaceAll(rest, "-", " ")
	}
	return unit
}

// higherIsBetter tells the direction of a unit. Units that nobody declared get
// better downwards, as costs do.
func higherIsBetter(unit string) bool {
	return unit == "MB/s" || slices.ContainsFunc(measure.Units(), func(u measure.Unit) bool {
		return u.Name == unit && u.Better == "higher"
	})
}

// Kinds of units, by the table they stand in.
const (
	rateGroup = iota
	latencyGroup
	costGroup
	otherGroup
)

var latencyUnits = []string{"avg-ns", "min-ns", "p50-ns", "p90-ns", "p99-ns", "p99.9-ns", "max-ns"}

// groupOf sorts a unit into the table it belongs to.
func groupOf(unit string) int {
	switch {
	case slices.Contains(latencyUnits, unit):
		return latencyGroup
	case strings.HasSuffix(unit, "/s"):
		return rateGroup
	case unit != "ns/op" && strings.HasSuffix(unit, "/op"):
		return costGroup
	}
	return otherGroup
}
