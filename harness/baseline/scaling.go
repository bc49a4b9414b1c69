package baseline

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/phantomdb/phantomdb/harness/results"
)

// A point is the work per node at one number of nodes: x(n) = X(n)/n.
type point struct {
	n   int
	per results.Summary
}

// judgeLaw judges the rows of one benchmark together. Rows of different numbers
// of processors or of different modes are judged apart.
func (e *Entry) judgeLaw(rows []*results.Row, set *results.Set) []Finding {
	type curve struct {
		procs int
		mode  string
	}
	var curves []curve
	members := map[curve][]*results.Row{}
	for _, row := range rows {
		c := curve{row.Procs, row.Mode}
		if members[c] == nil {
			curves = append(curves, c)
		}
		members[c] = append(members[c], row)
	}
	var list []Finding
	for _, c := range curves {
		f := Finding{Entry: e, Row: e.Bench, Procs: c.procs, Mode: c.mode}
		points, note := e.points(members[c], set)
		if note == "" {
			note = e.lacking(points)
		}
		switch {
		case note != "":
			f.Verdict, f.Note = Missing, note
		case e.Law == LawEfficiency:
			f.efficiency(points)
		default:
			f.loss(points)
		}
		list = append(list, f)
	}
	return list
}

// points returns what the rows say, by growing numbers of nodes; or why they
// do not say it.
func (e *Entry) points(rows []*results.Row, set *results.Set) (points []point, note string) {
	before, after, _ := strings.Cut(e.Bench, "=*")
	for _, row := range rows {
		text := strings.TrimSuffix(strings.TrimPrefix(row.Name, before+"="), after)
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Sprintf("%s: %q is no number of nodes", row.Name, text)
		}
		if note := missingSamples(row, set); note != "" {
			return nil, row.Name + ": " + note
		}
		kept, note := e.counted(row)
		values := kept.Values(e.Unit)
		if len(values) == 0 {
			if note == "" {
				note = "the benchmark does not print " + e.Unit
			}
			return nil, row.Name + ": " + note
		}
		per := results.Summarize(values)
		per.Median /= float64(n)
		per.Low /= float64(n)
		per.High /= float64(n)
		if per.Median <= 0 {
			return nil, fmt.Sprintf("%s: %g %s: nothing was done", row.Name, per.Median, e.Unit)
		}
		points = append(points, point{n, per})
	}
	slices.SortFunc(points, func(a, b point) int { return a.n - b.n })
	return points, ""
}

// lacking says which points of the law were not measured; "" if all were.
func (e *Entry) lacking(points []point) string {
	want := append([]int{e.From, e.To}, e.Points...)
	slices.Sort(want)
	want = slices.Compact(want)
	for _, n := range want {
		if !slices.ContainsFunc(points, func(p point) bool { return p.n == n }) {
			return fmt.Sprintf("measured at %s: expected %s", numbers(points), join(want))
		}
	}
	return ""
}

// efficiency judges x(to)/x(from).
func (f *Finding) efficiency(points []point) {
	at := func(n int) results.Summary {
		return points[slices.IndexFunc(points, func(p point) bool { return p.n == n })].per
	}
	f.Summary = ratio(at(f.Entry.To), at(f.Entry.From))
	f.judgeLimit()
}

// loss judges the loss per added node between neighbouring points. The figure is
// that of the worst pair: one that misses the limit, else one whose samples do
// not tell, and of several the one with the largest median. A pair that is known
// well and lost a little more does not speak for one that is not known.
func (f *Finding) loss(points []point) {
	rank := map[Verdict]int{Pass: 0, Noise: 1, Miss: 2}
	worst := Finding{}
	for i, p := range points[1:] {
		last := points[i]
		if last.n < f.Entry.From || p.n > f.Entry.To {
			continue
		}
		r := ratio(p.per, last.per)
		lost := func(share float64) float64 { return 1 - math.Pow(share, 1/float64(p.n-last.n)) }
		pair := Finding{Entry: f.Entry, Summary: results.Summary{N: r.N, Median: lost(r.Median), Low: lost(r.High), High: lost(r.Low)}}
		pair.judgeLimit()
		pair.Note = fmt.Sprintf("the largest, from %d to %d", last.n, p.n)
		by := rank[pair.Verdict] - rank[worst.Verdict]
		if worst.Entry == nil || by > 0 || by == 0 && pair.Summary.Median > worst.Summary.Median {
			worst = pair
		}
	}
	f.Summary, f.Verdict, f.Margin, f.Note = worst.Summary, worst.Verdict, worst.Margin, worst.Note
}

// ratio divides two summaries. Its interval is that of the worst cases, which
// covers the true ratio with more than the confidence of each.
func ratio(a, b results.Summary) results.Summary {
	r := results.Summary{N: min(a.N, b.N), Median: a.Median / b.Median, Low: 0, High: math.Inf(1)}
	if a.Bounded() && b.Bounded() && b.Low > 0 {
		r.Low, r.High = a.Low/b.High, a.High/b.Low
	}
	return r
}

func numbers(points []point) string {
	var list []int
	for _, p := range points {
		list = append(list, p.n)
	}
	return join(list)
}

func join(list []int) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(list)), ", "), "[]")
}
