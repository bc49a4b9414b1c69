package report

import (
	"fmt"
	"maps"
	"math"
	"slices"

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
	commits := map[string]int{}
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
			if c := f.Sample.Commit; c != "" {
				commits[c[:min(12, len(c))]] |= map[bool]int{false: 1, true: 2}[f.Sample.Modified]
			}
		} else {
			b.lost++
		}
	}
	for _, c := range slices.Sorted(maps.Keys(commits)) {
		b.model.Commits = append(b.model.Commits, c+[]string{"", "", " with changes", ", in part with changes"}[commits[c]])
	}
}

// choose picks the cases that get charts: those that a baseline is about, then
// the others as they come.
func (b *builder) choose(rows []row) map[string]bool {
	chosen := map[string]bool{}
	for _, judged := range []bool{true, false} {
		for _, r := range rows {
			has := slices.ContainsFunc(r.Samples, func(s *results.Sample) bool { _, ok := b.bound[s]; return ok && !condemned(s) })
			if has && b.judged[r.id] == judged && len(chosen) < MaxCharts {
				chosen[r.id] = true
			}
		}
	}
	return chosen
}

// evidence reads the artifacts of a case.
func (b *builder) evidence(r row) (*Evidence, error) {
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
	var err error
	if e.Curve, e.Heat, err = b.latencies(r, sample); err != nil {
		return nil, err
	}
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

// latencies makes the curve of all samples of a case and the heat map of one.
func (b *builder) latencies(r row, shown *results.Sample) (c *Curve, h *Heat, err error) {
	var all measure.Histogram
	for _, s := range r.Samples {
		f, ok := b.bound[s]
		if !ok || condemned(s) {
			continue
		}
		log, ok, err := f.Latency()
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			continue
		}
		own := log.Intervals[:0]
		for _, in := range log.Intervals {
			if in.Tag == f.tag() {
				own = append(own, in)
				all.Merge(in.Latency)
			}
		}
		if s == shown {
			h = heat(own)
		}
	}
	return curve(&all), h, nil
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
		if _, ok := b.bound[s]; !ok || condemned(s) {
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
