package harness

import (
	"slices"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// series turns the rows into columns.
func (w *watcher) series() artifact.Series {
	s := artifact.Series{Interval: int64(w.interval)}
	for _, r := range w.rows[1:] {
		s.Ends = append(s.Ends, r.at.Seconds())
	}
	for t := range w.tracks {
		s.Columns = append(s.Columns, w.latencyColumns(t)...)
	}
	for i, m := range w.meters.List() {
		s.Columns = append(s.Columns, w.column(column(m), func(r row) float64 { return r.snapshot.Values[i] }))
	}
	for i := range w.rows[0].snapshot.Spreads {
		s.Columns = append(s.Columns, w.spreadColumns(i)...)
	}
	for _, c := range w.counted() {
		s.Columns = append(s.Columns, w.column(artifact.Column{
			Name: c.name, Unit: c.unit, Kind: artifact.Counter, Source: systemSource,
		}, func(r row) float64 { return float64(c.of(&r.counters)) }))
	}
	if w.ledger.drift {
		s.Columns = append(s.Columns, w.column(artifact.Column{
			Name: "disk-used", Unit: "B", Kind: artifact.Gauge, Source: "files in the data directories",
		}, func(r row) float64 { return r.disk.bytes }), w.column(artifact.Column{
			Name: "disk-entries", Unit: "1", Kind: artifact.Gauge, Source: "files and directories in the data directories",
		}, func(r row) float64 { return r.disk.entries }), w.column(artifact.Column{
			Name: heldColumn, Unit: "B", Kind: artifact.Gauge, Source: "latencies of the intervals so far, part of the heap",
		}, func(r row) float64 { return float64(r.held) }))
	}
	return s
}

func column(m measure.Meter) artifact.Column {
	return artifact.Column{Name: m.Name, Unit: m.Unit, Kind: string(m.Kind), Source: m.Source}
}

// column fills c from the rows: levels as they are, totals as what they grew by
// within the interval.
func (w *watcher) column(c artifact.Column, of func(row) float64) artifact.Column {
	c.Values = make(artifact.Floats, 0, len(w.rows)-1)
	for i := 1; i < len(w.rows); i++ {
		v := of(w.rows[i])
		if c.Kind == artifact.Counter {
			v -= of(w.rows[i-1])
		}
		c.Values = append(c.Values, v)
	}
	return c
}

// latencyColumns are operations, failures and quantiles of one track. A
// quantile that an interval has too few values for is unknown.
func (w *watcher) latencyColumns(t int) []artifact.Column {
	suffix := ""
	if tag := w.tracks[t].tag; tag != "" {
		suffix = "-" + tag
	}
	of := func(name, unit, kind string, f func(r *row) float64) artifact.Column {
		c := artifact.Column{Name: name + suffix, Unit: unit, Kind: kind, Source: "the run's clients"}
		for i := 1; i < len(w.rows); i++ {
			c.Values = append(c.Values, f(&w.rows[i]))
		}
		return c
	}
	known := func(r *row, v float64) float64 {
		if r.captures[t].Count() == 0 {
			return unknown
		}
		return v
	}
	list := []artifact.Column{
		of("ops", "1", artifact.Counter, func(r *row) float64 { return float64(r.captures[t].Count()) }),
		of("errors", "1", artifact.Counter, func(r *row) float64 { return float64(r.failed[t]) }),
		of("latency-mean", "ns", artifact.Gauge, func(r *row) float64 { return known(r, r.captures[t].Mean()) }),
		of("latency-max", "ns", artifact.Gauge, func(r *row) float64 { return known(r, float64(r.captures[t].Max())) }),
	}
	for _, q := range []struct {
		name string
		q    float64
	}{{"latency-p50", 0.5}, {"latency-p90", 0.9}, {"latency-p99", 0.99}, {"latency-p99.9", 0.999}} {
		list = append(list, of(q.name, "ns", artifact.Gauge, func(r *row) float64 {
			c := &r.captures[t]
			if !slices.ContainsFunc(measure.Percentiles(c.Count()), func(p measure.Percentile) bool { return p.Q == q.q }) {
				return unknown
			}
			return float64(c.Quantile(q.q))
		}))
	}
	return list
}

// spreadColumns are how many values a distribution of the runtime got within
// each interval, and how large they were.
func (w *watcher) spreadColumns(i int) []artifact.Column {
	m := w.rows[0].snapshot.Spreads[i].Meter
	list := []artifact.Column{
		{Name: m.Name + "-count", Unit: "1", Kind: artifact.Counter, Source: m.Source},
		{Name: m.Name + "-p50", Unit: m.Unit, Kind: artifact.Gauge, Source: m.Source},
		{Name: m.Name + "-p99", Unit: m.Unit, Kind: artifact.Gauge, Source: m.Source},
		{Name: m.Name + "-max", Unit: m.Unit, Kind: artifact.Gauge, Source: m.Source},
	}
	for k := 1; k < len(w.rows); k++ {
		from, to := w.rows[k-1].snapshot.Spreads[i], w.rows[k].snapshot.Spreads[i]
		list[0].Values = append(list[0].Values, float64(to.CountSince(from)))
		for c, q := range []float64{0.5, 0.99, 1} {
			v, ok := to.QuantileSince(from, q)
			if !ok {
				v = unknown
			}
			list[c+1].Values = append(list[c+1].Values, v)
		}
	}
	return list
}

// totals are all meters over the measured part.
func (w *watcher) totals() artifact.Meters {
	first, last := w.rows[0], w.rows[len(w.rows)-1]
	var out artifact.Meters
	for i, m := range w.meters.List() {
		one := artifact.Meter{Name: m.Name, Unit: m.Unit, Kind: string(m.Kind), Source: m.Source}
		w.fill(&one, first.snapshot.Values[i], last.snapshot.Values[i])
		if m.Kind == measure.Gauge {
			highest := unknown
			for _, r := range w.rows {
				if v := r.snapshot.Values[i]; v == v && !(v <= highest) { // NaN is neither
					highest = v
				}
			}
			one.Max = number(highest)
		}
		out.Meters = append(out.Meters, one)
	}
	for i, s := range last.snapshot.Spreads {
		one := artifact.Meter{Name: s.Name, Unit: s.Unit, Kind: artifact.Counter, Source: s.Source, Quantiles: map[string]float64{}}
		count := float64(s.CountSince(first.snapshot.Spreads[i]))
		one.Delta = number(count)
		for name, q := range map[string]float64{"0.5": 0.5, "0.9": 0.9, "0.99": 0.99, "0.999": 0.999, "1": 1} {
			if v, ok := s.QuantileSince(first.snapshot.Spreads[i], q); ok {
				one.Quantiles[name] = v
			}
		}
		out.Meters = append(out.Meters, one)
	}
	for _, c := range w.counted() {
		one := artifact.Meter{Name: c.name, Unit: c.unit, Kind: artifact.Counter, Source: systemSource}
		w.fill(&one, float64(c.of(&first.counters)), float64(c.of(&last.counters)))
		out.Meters = append(out.Meters, one)
	}
	out.Meters = append(out.Meters, shareOfGC(out)...)
	return out
}

// fill states both readings, and of a total what the run and one operation
// added to it.
func (w *watcher) fill(m *artifact.Meter, start, end float64) {
	m.Start, m.End = number(start), number(end)
	if m.Kind == artifact.Counter {
		m.Delta = number(end - start)
		m.PerOp = number((end - start) / float64(max(w.b.N, 1)))
	}
}

// number returns nil for what JSON cannot say.
func number(v float64) *float64 {
	if v-v != 0 { // NaN or infinite
		return nil
	}
	return &v
}

// shareOfGC is the part of the processor time that went into collecting
// garbage.
func shareOfGC(m artifact.Meters) []artifact.Meter {
	gc, ok := m.Meter("gc-cpu")
	user, hasUser := m.Meter("cpu-user")
	system, hasSystem := m.Meter("cpu-system")
	if !ok || !hasUser || !hasSystem || gc.Delta == nil || user.Delta == nil || system.Delta == nil {
		return nil
	}
	used := *user.Delta + *system.Delta
	if used <= 0 {
		return nil
	}
	return []artifact.Meter{{Name: "gc-share", Unit: "1", Kind: artifact.Gauge, Source: "gc-cpu over cpu-user and cpu-system",
		End: number(*gc.Delta / used)}}
}

// systemSource is where counters of the system under measurement come from.
const systemSource = "counters of the system"

// counted lists the system's counters that ever moved, with those of each
// class of messages.
func (w *watcher) counted() []counted {
	last := &w.rows[len(w.rows)-1].counters
	var list []counted
	for _, c := range everyCounted(last) {
		if c.of(last) != 0 {
			list = append(list, c)
		}
	}
	return list
}
