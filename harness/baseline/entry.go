package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// module is what a bench field without a dot in its first element lies in.
const module = "github.com/phantomdb/phantomdb"

// A Kind is one of the three kinds of expectation.
type Kind string

// The kinds, by the word that begins an entry.
const (
	Level   Kind = "level"
	Band    Kind = "band"
	Scaling Kind = "scaling"
)

// An Entry is one expectation.
type Entry struct {
	Kind    Kind
	Name    string
	Package string // import path
	Bench   string // without "Benchmark" and processors; one key may be *
	Unit    string
	// Limit is that of a level or a law.
	Limit Limit
	// Value and Allow are those of a band: Value-Allow to Value+Allow pass.
	Value, Allow float64
	relative     bool // Allow was written as a share of Value
	// Runs is how many samples a band was derived from.
	Runs int
	// Law is efficiency or loss, From and To the numbers of nodes it spans.
	// Points are those that must have been measured beside the two.
	Law      string
	From, To int
	Points   []int
	// Modes are those whose results count; none means all.
	Modes []string
	// Least is the smallest number of operations of a sample that counts.
	Least  int
	Reason string
	File   string
	Line   int
}

// A Limit is a bound that values must keep.
type Limit struct {
	Op    string // <, <=, > or >=
	Value float64
	Text  string // as written, for what people read
}

func (l Limit) keeps(v float64) bool {
	switch l.Op {
	case "<":
		return v < l.Value
	case "<=":
		return v <= l.Value
	case ">":
		return v > l.Value
	default:
		return v >= l.Value
	}
}

func (l Limit) upper() bool { return l.Op == "<" || l.Op == "<=" }

// margin is the distance of v from the limit in the good direction, as a share
// of the limit.
func (l Limit) margin(v float64) float64 {
	d := v - l.Value
	if l.upper() {
		d = -d
	}
	if l.Value == 0 {
		return d
	}
	return d / l.Value
}

// The laws of scaling. With X(n) operations per second on n nodes and
// x(n) = X(n)/n:
const (
	// LawEfficiency is x(to)/x(from).
	LawEfficiency = "efficiency"
	// LawLoss is the largest loss per added node between neighbouring rows:
	// 1 - x(n)/x(n-1), and where nodes in between were not measured, the same
	// loss at each of them.
	LawLoss = "loss"
)

// defaultLeast is the number of operations below which a sample says too little,
// unless an entry knows better.
const defaultLeast = 100

// minRuns is the smallest number of samples that a band may rest on.
const minRuns = 20

// check looks for what parsing alone does not see.
func (e *Entry) check() error {
	switch {
	case e.Bench == "":
		return fmt.Errorf("no bench: expected one such as \"consensus Propose/disk=sync\"")
	case e.Unit == "":
		return fmt.Errorf("no unit: expected one such as avg-ns")
	case e.Reason == "":
		return fmt.Errorf("no reason: expected a sentence that says why")
	case strings.Count(e.Bench, "=*") > 1:
		return fmt.Errorf("bench %s: expected at most one key with the value *", e.Bench)
	}
	switch e.Kind {
	case Level:
		return e.checkLevel()
	case Band:
		return e.checkBand()
	default:
		return e.checkScaling()
	}
}

func (e *Entry) checkLevel() error {
	if e.Limit.Op == "" {
		return fmt.Errorf("no limit: expected one such as \"< 5ms\"")
	}
	if timed(e.Unit) && strings.HasSuffix(e.Limit.Text, "%") {
		return fmt.Errorf("limit %s of %s: expected a time or a rate, of which there is no percentage", e.Limit.Text, e.Unit)
	}
	if higherIsBetter(e.Unit) == e.Limit.upper() {
		return fmt.Errorf("limit %s of %s: expected a bound on the side where it gets worse", e.Limit.Text, e.Unit)
	}
	return nil
}

func (e *Entry) checkBand() error {
	switch {
	case timed(e.Unit):
		return fmt.Errorf("unit %s: expected a counter, since time differs from machine to machine", e.Unit)
	case e.Runs < minRuns:
		return fmt.Errorf("runs %d: expected at least %d samples behind a band", e.Runs, minRuns)
	case e.Allow < 0 || e.Value < 0:
		return fmt.Errorf("value %g, allow %g: expected no negative numbers", e.Value, e.Allow)
	case strings.HasPrefix(e.Unit, "exact-") && e.Allow != 0:
		return fmt.Errorf("allow %g of %s: expected 0, since it is exact", e.Allow, e.Unit)
	case e.Value > 0 && e.Allow >= e.Value:
		return fmt.Errorf("value %g, allow %g: expected a band that does not reach down to 0", e.Value, e.Allow)
	}
	return nil
}

func (e *Entry) checkScaling() error {
	switch {
	case !strings.Contains(e.Bench, "=*"):
		return fmt.Errorf("bench %s: expected a key with the value *, such as nodes=*", e.Bench)
	case !higherIsBetter(e.Unit):
		return fmt.Errorf("unit %s: expected a rate", e.Unit)
	case e.Limit.Op == "":
		return fmt.Errorf("no limit: expected one such as \">= 0.9\"")
	case e.Law != LawEfficiency && e.Law != LawLoss:
		return fmt.Errorf("law %q: expected efficiency or loss", e.Law)
	case e.From < 1 || e.To <= e.From:
		return fmt.Errorf("from %d to %d: expected two growing numbers of at least 1", e.From, e.To)
	case e.Limit.upper() != (e.Law == LawLoss):
		return fmt.Errorf("limit %s: expected >= of an efficiency and < of a loss", e.Limit.Text)
	}
	return nil
}

// higherIsBetter tells the direction of a unit that the harness knows.
func higherIsBetter(unit string) bool {
	return unit == "MB/s" || slices.ContainsFunc(measure.Units(), func(u measure.Unit) bool {
		return u.Name == unit && u.Better == "higher"
	})
}

// timed reports whether a unit is time or a rate.
func timed(unit string) bool {
	return strings.HasSuffix(unit, "/s") || strings.HasSuffix(unit, "-s") || nanoseconds(unit)
}

// nanoseconds reports whether a unit counts nanoseconds.
func nanoseconds(unit string) bool {
	return strings.HasSuffix(unit, "-ns") || strings.HasPrefix(unit, "ns/") || strings.Contains(unit, "-ns/")
}
