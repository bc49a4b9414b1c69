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

// efficiency judges x(to)/x(from).
func (f *Finding) efficiency(points []point) {
	e := f.Entry
	from := slices.IndexFunc(points, func(p point) bool { return p.n == e.From })
	to := slices.IndexFunc(points, func(p point) bool { return p.n == e.To })
	if from < 0 || to < 0 {
		f.Verdict, f.Note = Missing, fmt.Sprintf("measured at %s: expected %d and %d", numbers(points), e.From, e.To)
		return
	}
	f.Summary = ratio(points[to].per, points[from].per)
	f.judgeLimit()
}

// loss judges the largest loss per added node between neighbouring points.
func (f *Finding) loss(points []point) {
	if len(points) < 2 {
		f.Verdict, f.Note = Missing, fmt.Sprintf("measured at %s: expected two numbers of nodes at least", numbers(points))
		return
	}
	worst := math.Inf(-1)
	for i, p := range points[1:] {
		last := points[i]
		r := ratio(p.per, last.per)
		lost := func(share float64) float64 { return 1 - math.Pow(share, 1/float64(p.n-last.n)) }
		if l := lost(r.Median); l > worst {
			worst = l
			f.Summary = results.Summary{N: r.N, Median: l, Low: lost(r.High), High: lost(r.Low)}
			f.Note = fmt.Sprintf("the largest, from %d to %d", last.n, p.n)
		}
	}
	f.judgeLimit()
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
	var s []string
	for _, p := range points {
		s = append(s, strconv.Itoa(p.n))
	}
	return strings.Join(s, ", ")
}
