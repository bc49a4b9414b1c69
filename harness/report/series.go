package report

import (
	"math"
	"slices"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// maxPoints bounds the points of a line over time.
const maxPoints = 200

// shorten joins neighbouring intervals until maxPoints are left: counters add up,
// and of levels the highest stays, since a chart is read for its peaks.
func shorten(s artifact.Series) artifact.Series {
	group := (len(s.Ends) + maxPoints - 1) / maxPoints
	if group <= 1 {
		return s
	}
	out := artifact.Series{Interval: s.Interval * int64(group)}
	for part := range slices.Chunk(s.Ends, group) {
		out.Ends = append(out.Ends, part[len(part)-1])
	}
	for _, c := range s.Columns {
		joined := c
		joined.Values = nil
		for part := range slices.Chunk(c.Values, group) {
			joined.Values = append(joined.Values, join(part, c.Kind))
		}
		out.Columns = append(out.Columns, joined)
	}
	return out
}

func join(part artifact.Floats, kind string) float64 {
	v := math.NaN()
	for _, x := range part {
		switch {
		case math.IsNaN(x):
		case math.IsNaN(v):
			v = x
		case kind == artifact.Counter:
			v += x
		default:
			v = max(v, x)
		}
	}
	return v
}

// A view is a line of a panel: a column, divided by the length of its interval
// if it is a counter, and scaled.
type view struct {
	name, column string
	scale        float64
	tagged       bool // each kind of operation has a column of its own
}

// charts are the panels that a run gets, from the columns of its series.
var charts = []struct {
	title, unit string
	log         bool
	lines       []view
}{
	{"Throughput", "ops/s", false, []view{{"operations", "ops", 1, true}, {"errors", "errors", 1, true}}},
	{"Latency", "ns", true, []view{{"p50", "latency-p50", 1, true}, {"p99", "latency-p99", 1, true}, {"max", "latency-max", 1, true}}},
	{"CPU", "cores", false, []view{{"user", "cpu-user", 1e-9, false}, {"system", "cpu-system", 1e-9, false}, {"garbage collector", "gc-cpu", 1e-9, false}}},
	{"Memory", "B", false, []view{{"live heap", "heap-live", 1, false}, {"resident", "rss", 1, false}}},
	{"Syncs", "fsyncs/s", false, []view{{"syncs", "fsyncs", 1, false}}},
	{"Bytes", "B/s", false, []view{{"disk", "disk-bytes", 1, false}, {"wire", "wire-bytes", 1, false}}},
}

// panels makes the charts of a series. A column that is not there, or is zero
// all along beside another that is not, has no line.
func panels(s artifact.Series, tag string) []Panel {
	if len(s.Ends) < 2 {
		return nil
	}
	ends := make(artifact.Floats, len(s.Ends))
	for i, v := range s.Ends {
		ends[i] = round3(v)
	}
	var list []Panel
	for _, chart := range charts {
		p := Panel{Title: chart.title, Unit: chart.unit, Log: chart.log, Ends: ends}
		for i, v := range chart.lines {
			name := v.column
			if v.tagged && tag != "" {
				name += "-" + tag
			}
			c, ok := s.Column(name)
			if !ok {
				continue
			}
			line := Line{Name: v.name, Values: perSecond(c, s.Ends, v.scale)}
			if i == 0 || slices.ContainsFunc(line.Values, func(x float64) bool { return x > 0 }) {
				p.Lines = append(p.Lines, line)
			}
		}
		if slices.ContainsFunc(p.Lines, func(l Line) bool { return known(l.Values) >= 2 }) {
			list = append(list, p)
		}
	}
	return list
}

// known counts the numbers that are known.
func known(values artifact.Floats) (n int) {
	for _, v := range values {
		if !math.IsNaN(v) {
			n++
		}
	}
	return n
}

func perSecond(c artifact.Column, ends artifact.Floats, scale float64) artifact.Floats {
	out := make(artifact.Floats, len(c.Values))
	last := 0.0
	for i, v := range c.Values {
		length := ends[i] - last
		last = ends[i]
		switch {
		case c.Kind != artifact.Counter:
		case length > 0:
			v /= length
		default:
			v = math.NaN()
		}
		out[i] = round3(v * scale)
	}
	return out
}

// resources are the meters worth a line: totals that moved and levels.
func resources(m artifact.Meters) []Meter {
	var list []Meter
	for _, one := range m.Meters {
		x := Meter{Name: one.Name, Unit: one.Unit, From: one.Source, Total: one.Delta, PerOp: one.PerOp, Peak: one.Max}
		if q, ok := one.Quantiles["0.99"]; ok {
			list = append(list, Meter{Name: one.Name + " p99", Unit: one.Unit, From: one.Source, Peak: &q})
			continue
		}
		if x.Total == nil && x.Peak == nil {
			x.Peak = one.End
		}
		if x.Peak == nil && (x.Total == nil || *x.Total == 0) {
			continue
		}
		list = append(list, x)
	}
	return list
}
