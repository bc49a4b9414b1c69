package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/measure"
	"github.com/phantomdb/phantomdb/harness/results"
)

// MaxCharts is the number of cases that get charts. Each takes about twenty
// kilobytes of the page.
const MaxCharts = 120

// A boundFolder is where the artifacts of a sample lie. kind is nil for a line of
// all operations.
type boundFolder struct {
	*artifact.Folder
	kind *artifact.Kind
}

// tag is what the kind's columns and intervals are marked with.
func (f boundFolder) tag() string {
	if f.kind == nil {
		return ""
	}
	return f.kind.Tag
}

// bind finds the artifacts of each sample.
func (b *builder) bind() {
	b.bound = map[*results.Sample]boundFolder{}
	if b.in.Artifacts == nil {
		return
	}
	for _, s := range b.in.Set.Samples {
		name := "Benchmark" + s.Name
		if s.Procs != 1 {
			name = fmt.Sprintf("%s-%d", name, s.Procs)
		}
		values := map[string]float64{}
		for _, v := range s.Values {
			values[v.Unit] = v.Value
		}
		if f, kind, ok := b.in.Artifacts.Bind(s.Package, name, values); ok {
			b.bound[s] = boundFolder{f, kind}
			if f.Sample.Commit != "" {
				commit := f.Sample.Commit[:min(12, len(f.Sample.Commit))]
				if f.Sample.Modified {
					commit += " with changes"
				}
				if !slices.Contains(b.model.Commits, commit) {
					b.model.Commits = append(b.model.Commits, commit)
				}
			}
		} else {
			b.lost++
		}
	}
}

// choose picks the cases that get charts: those that a baseline is about, then
// the others as they come.
func (b *builder) choose(rows []row) map[string]bool {
	chosen := map[string]bool{}
	for _, judged := range []bool{true, false} {
		for _, r := range rows {
			has := slices.ContainsFunc(r.Samples, func(s *results.Sample) bool { _, ok := b.bound[s]; return ok })
			if has && b.judged[r.id] == judged && len(chosen) < MaxCharts {
				chosen[r.id] = true
			}
		}
	}
	return chosen
}

// evidence reads the artifacts of a case.
func (b *builder) evidence(r row, c *Case) (*Evidence, error) {
	sample, ordinal := b.typical(r)
	f := b.bound[sample]
	e := &Evidence{Start: f.Sample.Start.UTC(), Seed: f.Sample.Seed, Commit: f.Sample.Commit, Sample: "the only sample"}
	if n := len(r.Samples); n > 1 {
		e.Sample = fmt.Sprintf("sample %d of %d, the one nearest the median", ordinal+1, n)
	}
	for _, name := range f.Files {
		if slices.Contains(artifact.Profiles, name) {
			e.Profiles = append(e.Profiles, name)
		}
	}
	var all measure.Histogram
	for _, s := range r.Samples {
		one, ok := b.bound[s]
		if !ok {
			continue
		}
		log, ok, err := one.Latency()
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		own := log.Intervals[:0]
		for _, in := range log.Intervals {
			if in.Tag == one.tag() {
				own = append(own, in)
				all.Merge(in.Latency)
			}
		}
		if s == sample {
			e.Heat = heat(own)
		}
	}
	e.Curve = curve(&all)
	series, ok, err := f.Series()
	if err != nil {
		return nil, err
	}
	if ok {
		e.Series = panels(shorten(series), f.tag())
	}
	meters, ok, err := f.Meters()
	if err != nil {
		return nil, err
	}
	if ok {
		e.Resources = resources(meters)
	}
	return e, nil
}

// typical is the sample with artifacts that lies nearest the median of the row,
// in throughput or, where the benchmark prints none, in time per operation.
func (b *builder) typical(r row) (best *results.Sample, ordinal int) {
	unit := "ops/s"
	if len(r.Values(unit)) == 0 {
		unit = "ns/op"
	}
	median := math.NaN()
	if values := r.Values(unit); len(values) > 0 {
		median = results.Summarize(values).Median
	}
	nearest := math.Inf(1)
	for i, s := range r.Samples {
		if _, ok := b.bound[s]; !ok {
			continue
		}
		v, ok := s.Get(unit)
		off := math.Abs(v - median)
		if best == nil || ok && off < nearest {
			best, ordinal = s, i
			if ok {
				nearest = off
			}
		}
	}
	return best, ordinal
}

// curve is latency by percentile, in twentieths of a nine, up to where ten
// values lie beyond.
func curve(h *measure.Histogram) *Curve {
	if h.Count() < 20 {
		return nil
	}
	c := &Curve{Count: h.Count()}
	last := math.Log10(float64(h.Count()) / 10)
	for i := 0; ; i++ {
		nines := math.Min(float64(i)/20, last)
		c.Nines = append(c.Nines, round3(nines))
		c.Nanos = append(c.Nanos, round3(float64(h.Quantile(1-math.Pow(10, -nines)))))
		if nines >= last {
			return c
		}
	}
}

// Bounds of a heat map: columns of time, and rows, of which a factor of ten has
// eight.
const (
	maxColumns = 100
	perDecade  = 8
)

// heat counts latencies by time and size. Rows are equally high on a log axis.
func heat(intervals []measure.Interval) *Heat {
	var all measure.Histogram
	for _, in := range intervals {
		all.Merge(in.Latency)
	}
	if all.Count() == 0 || len(intervals) < 2 {
		return nil
	}
	row := func(d float64) int { return int(math.Floor(math.Log10(math.Max(d, 1)) * perDecade)) }
	low, high := row(float64(all.Min())), row(float64(all.Max()))
	h := &Heat{}
	for i := low; i <= high+1; i++ {
		h.Edges = append(h.Edges, round3(math.Pow(10, float64(i)/perDecade)))
	}
	group := (len(intervals) + maxColumns - 1) / maxColumns
	for part := range slices.Chunk(intervals, group) {
		counts := make([]int64, high-low+1)
		for _, in := range part {
			for bucket := range in.Latency.Buckets() {
				// A bucket may begin below the minimum and end beyond the maximum.
				counts[min(max(row(float64(bucket.Low+bucket.High)/2)-low, 0), high-low)] += bucket.Count
			}
		}
		h.Ends = append(h.Ends, round3(part[len(part)-1].To.Seconds()))
		h.Counts = append(h.Counts, counts)
	}
	return h
}

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

// evidenceText says which cases have charts, and why the others have none.
func (b *builder) evidenceText(chosen int) string {
	samples := len(b.in.Set.Samples)
	switch {
	case b.in.Artifacts == nil:
		return "No artifacts were given, so there are no charts over time; go tool phantom run --artifacts keeps them."
	case len(b.bound) == 0:
		return fmt.Sprintf("The artifacts hold %s, and none of them belongs to these results.", plural(len(b.in.Artifacts.Folders), "sample"))
	}
	s := fmt.Sprintf("Charts of %d of %s.", chosen, plural(b.model.Cases, "case"))
	if b.lost > 0 {
		s += fmt.Sprintf(" %d of %s left no artifacts.", b.lost, plural(samples, "sample"))
	}
	if chosen == MaxCharts {
		s += fmt.Sprintf(" At most %d cases get charts, those with a baseline first.", MaxCharts)
	}
	return s
}

// machineFacts adds what the artifacts know of the machines.
func (b *builder) machineFacts() {
	if b.in.Artifacts == nil {
		return
	}
	list := make([]artifact.Environment, 0, len(b.in.Artifacts.Environments))
	for _, e := range b.in.Artifacts.Environments {
		list = append(list, e)
	}
	slices.SortFunc(list, func(x, y artifact.Environment) int { return cmp.Or(x.Start.Compare(y.Start), cmp.Compare(x.ID, y.ID)) })
	for i := range b.model.Machines {
		m := &b.model.Machines[i]
		mine := slices.DeleteFunc(slices.Clone(list), func(e artifact.Environment) bool {
			return e.OS != m.OS || e.Arch != m.Arch || e.CPU != m.CPU || e.FileSystem != "" && e.FileSystem != m.FileSystem
		})
		if len(mine) > 0 {
			m.Facts = facts(mine)
		}
	}
}

// facts describes the processes of one machine; what differs among them is a
// range.
func facts(list []artifact.Environment) []Fact {
	var out []Fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, Fact{name, value})
		}
	}
	add("Logical processors", texts(list, func(e artifact.Environment) string { return fmt.Sprint(e.Cores) }))
	add("GOMAXPROCS", texts(list, func(e artifact.Environment) string { return fmt.Sprint(e.Procs) }))
	add("Memory", span(list, "B", func(e artifact.Environment) (float64, bool) { return float64(e.Memory), e.Memory > 0 }))
	add("Kernel", texts(list, func(e artifact.Environment) string { return e.Kernel }))
	add("Virtual machine", texts(list, func(e artifact.Environment) string { return e.Virtualization }))
	add("Go", texts(list, func(e artifact.Environment) string { return e.Go }))
	probe := func(of func(artifact.Environment) *artifact.Probe) string {
		return span(list, "ns", func(e artifact.Environment) (float64, bool) {
			if p := of(e); p != nil {
				return float64(p.P50), true
			}
			return 0, false
		})
	}
	add("fsync, 4 KiB in place, p50", probe(func(e artifact.Environment) *artifact.Probe {
		if e.Disk == nil {
			return nil
		}
		return e.Disk.Fsync
	}))
	add("fdatasync, 4 KiB in place, p50", probe(func(e artifact.Environment) *artifact.Probe {
		if e.Disk == nil {
			return nil
		}
		return e.Disk.Fdatasync
	}))
	add("Loopback round trip, p50", probe(func(e artifact.Environment) *artifact.Probe { return e.Loopback }))
	add("Load average at the start", span(list, "1", func(e artifact.Environment) (float64, bool) {
		if len(e.Load) == 0 {
			return 0, false
		}
		return e.Load[0], true
	}))
	return out
}

// texts lists the different values that processes have.
func texts(list []artifact.Environment, of func(artifact.Environment) string) string {
	var all []string
	for _, e := range list {
		if v := of(e); v != "" && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return strings.Join(all, ", ")
}

// span is a number, or the smallest and the largest of several.
func span(list []artifact.Environment, unit string, of func(artifact.Environment) (float64, bool)) string {
	low, high := math.Inf(1), math.Inf(-1)
	for _, e := range list {
		if v, ok := of(e); ok {
			low, high = min(low, v), max(high, v)
		}
	}
	switch {
	case low > high:
		return ""
	case number(low, unit) == number(high, unit):
		return number(low, unit).String()
	}
	return number(low, unit).String() + " to " + number(high, unit).String()
}
