package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A grid is a table of the cases of one benchmark: what HTML and Markdown both
// print.
type grid struct {
	Title   string
	Columns []column
	Rows    []gridRow
	// Axis describes the range glyphs of the rows; empty if there are none. They
	// stand before column RangeAt, the first of the latencies.
	Axis    string
	RangeAt int
}

type column struct {
	Unit, Title string
	Better      string // "higher", "lower"
}

type gridRow struct {
	Case  *Case
	Cells []gridCell
	Range *glyph
	Noise string
}

// A gridCell is one number. Bar is its share of the largest in its column, in
// percent, 0 for none.
type gridCell struct {
	Number
	Note string // the interval in words
	Few  string // how many samples it is of, where they are not all
	Bar  float64
}

// A glyph draws p50, p99 and the largest latency on the log axis that the rows
// of a table share, in percent of its width.
type glyph struct{ P50, P99, Max float64 }

// grids sorts the units of a benchmark into tables: throughput and latency, cost
// per operation, and the rest.
func grids(x *Benchmark) []grid {
	var units [4][]string
	for i := range x.Cases {
		for _, q := range x.Cases[i].Quantities {
			g := groupOf(q.Unit)
			if !slices.Contains(units[g], q.Unit) {
				units[g] = append(units[g], q.Unit)
			}
		}
	}
	slices.SortStableFunc(units[latencyGroup], func(a, b string) int {
		return slices.Index(latencyUnits, a) - slices.Index(latencyUnits, b)
	})
	rest := units[otherGroup]
	// The page lists all of them with each case; side by side these are read.
	latencies := slices.DeleteFunc(units[latencyGroup], func(u string) bool { return u == "min-ns" || u == "p90-ns" })
	main := append(units[rateGroup], latencies...)
	if len(main) == 0 || slices.Contains(rest, "ns/op") && len(latencies) == 0 {
		main = append(main, "ns/op")
	}
	// Where there is a distribution, the time per operation says nothing new.
	rest = slices.DeleteFunc(rest, func(u string) bool { return u == "ns/op" })
	if costs := &units[costGroup]; slices.Contains(*costs, "mallocs/op") {
		// The same count, with the fraction that allocs/op loses.
		*costs = slices.DeleteFunc(*costs, func(u string) bool { return u == "allocs/op" })
	}
	list := []grid{newGrid(x, "Throughput and latency", main, true)}
	if len(units[costGroup]) > 0 {
		list = append(list, newGrid(x, "Cost per operation", units[costGroup], false))
	}
	if len(rest) > 0 {
		list = append(list, newGrid(x, "Also measured", rest, false))
	}
	return list
}

func newGrid(x *Benchmark, name string, units []string, first bool) grid {
	g := grid{Title: name}
	largest := make([]float64, len(units))
	for i, u := range units {
		better := "lower"
		if higherIsBetter(u) {
			better = "higher"
		}
		g.Columns = append(g.Columns, column{u, title(u), better})
		for k := range x.Cases {
			if q, ok := x.Cases[k].Get(u); ok {
				largest[i] = max(largest[i], q.Median)
			}
		}
	}
	for k := range x.Cases {
		c := &x.Cases[k]
		row := gridRow{Case: c}
		for i, u := range units {
			var one gridCell
			if q, ok := c.Get(u); ok {
				one = gridCell{Number: number(q.Median, u), Note: q.interval()}
				if q.N < c.Samples {
					one.Few = fmt.Sprintf("n = %d", q.N)
				}
				barred := groupOf(u) == rateGroup || u == "ns/op" || u == "cpu-ns/op"
				if barred && largest[i] > 0 && len(x.Cases) > 1 {
					one.Bar = math.Round(1000*max(q.Median, 0)/largest[i]) / 10
				}
			}
			row.Cells = append(row.Cells, one)
		}
		if first {
			row.Noise = c.noise()
		}
		g.Rows = append(g.Rows, row)
	}
	if first {
		g.ranges()
	}
	return g
}

// interval says in words what the samples leave open.
func (q Quantity) interval() string {
	if q.Low == nil || q.High == nil {
		return fmt.Sprintf("n = %d", q.N)
	}
	return fmt.Sprintf("%v to %v, n = %d", number(*q.Low, q.Unit), number(*q.High, q.Unit), q.N)
}

// span prints the ends of the interval as a column.
func (q Quantity) span() string {
	switch {
	case q.Low == nil || q.High == nil:
		return "–"
	case *q.Low == *q.High:
		return "no spread"
	}
	return fmt.Sprintf("%v to %v", number(*q.Low, q.Unit), number(*q.High, q.Unit))
}

// noise is how far the samples of a case leave its main quantity open.
func (c *Case) noise() string {
	q, ok := c.Get("ops/s")
	if !ok {
		q, ok = c.Get("ns/op")
	}
	if s, bounded := q.spread(); ok && bounded {
		return fmt.Sprintf("±%.2g %%", 100*s)
	}
	return "–"
}

// ranges draws the glyphs, if the table has latencies.
func (g *grid) ranges() {
	low, high := math.Inf(1), 0.0
	get := func(c *Case, units ...string) float64 {
		for _, u := range units {
			if q, ok := c.Get(u); ok && q.Median > 0 {
				return q.Median
			}
		}
		return 0
	}
	for _, r := range g.Rows {
		if p50 := get(r.Case, "p50-ns"); p50 > 0 {
			low, high = min(low, p50), max(high, get(r.Case, "max-ns", "p99-ns", "p50-ns"))
		}
	}
	if high <= 0 {
		return
	}
	from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if to <= from {
		to = from + 1
	}
	at := func(v float64) float64 {
		if v <= 0 {
			return 0
		}
		return math.Round(1000*(math.Log10(v)-from)/(to-from)) / 10
	}
	for i := range g.Rows {
		c := g.Rows[i].Case
		if p50 := get(c, "p50-ns"); p50 > 0 {
			g.Rows[i].Range = &glyph{at(p50), at(get(c, "p99-ns")), at(get(c, "max-ns", "p99-ns", "p50-ns"))}
		}
	}
	g.RangeAt = slices.IndexFunc(g.Columns, func(c column) bool { return groupOf(c.Unit) == latencyGroup })
	g.Axis = fmt.Sprintf("%v to %v", duration(math.Pow(10, from)), duration(math.Pow(10, to)))
}

// verdictWords are what a verdict is called and the sign that stands for it,
// since a colour alone tells nothing to many.
func verdictSign(v string) string {
	switch v {
	case "pass", StateKept:
		return "✓"
	case "miss", StateMissed:
		return "✕"
	case "missing", "within noise", StateOpen:
		return "?"
	}
	return "–"
}

// measured prints what an expectation was judged by.
func (e *Expectation) measured() string {
	if e.Value == nil {
		return "–"
	}
	s := number(*e.Value, e.Unit).String()
	if i := e.interval(); i != "" {
		s += " (" + i + ")"
	}
	return s
}

// interval prints the ends of the interval, if they can be told apart.
func (e *Expectation) interval() string {
	if e.Low == nil || e.High == nil {
		return ""
	}
	low, high := number(*e.Low, e.Unit), number(*e.High, e.Unit)
	if low == high {
		return ""
	}
	return fmt.Sprintf("%v to %v", low, high)
}

// margin prints the margin with its sign.
func (e *Expectation) margin() string {
	if marginBar(*e) == nil {
		return "–"
	}
	return strings.Replace(fmt.Sprintf("%+.0f %%", 100**e.Margin), "-", "−", 1)
}
