package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/harness/results"
)

// notices gathers what must be known before any number.
func (b *builder) notices() {
	add := func(kind, where, format string, args ...any) {
		b.model.Notices = append(b.model.Notices, Notice{Kind: kind, Where: where, Text: fmt.Sprintf(format, args...)})
	}
	if len(b.machines) > 1 {
		var names []string
		for i, m := range b.model.Machines {
			names = append(names, fmt.Sprintf("machine %d (%s) is %s/%s, %s, data on %s", i+1, plural(m.Samples, "sample"), m.OS, m.Arch, m.CPU, m.FileSystem))
		}
		add("mixed", "", "The results come from %d machines and their rows stand apart: %s.", len(b.machines), strings.Join(names, "; "))
	}
	for _, p := range b.in.Set.Problems {
		where := fmt.Sprintf("%s:%d", p.File, p.Line)
		switch p.Kind {
		case results.Failed:
			add("failed", where, "%s", p.Text)
		case results.Interrupted:
			add("incomplete", where, "%s", p.Text)
		}
	}
	for _, s := range b.in.Set.Skips {
		where := s.File
		if s.Line > 0 {
			where = fmt.Sprintf("%s:%d", s.File, s.Line)
		}
		add("skipped", where, "A sample of %s is missing: %s", s.Name, s.Why)
	}
	for _, s := range b.in.Set.Samples {
		if f, ok := b.bound[s]; ok && f.kind == nil {
			for _, x := range f.Sample.Findings {
				add(x.Reason, fmt.Sprintf("%s:%d", s.File, s.Line), "%s: %s", s.Name, x.Text)
			}
		}
	}
}

// spread is half the width of the interval as a share of the median; ok is false
// where there is no interval.
func (q Quantity) spread() (share float64, ok bool) {
	if q.Low == nil || q.High == nil || q.Median == 0 {
		return 0, false
	}
	return (*q.High - *q.Low) / 2 / math.Abs(q.Median), true
}

// noisy is the spread from which a difference is hard to see.
const noisy = 0.1

// noise says how steady the throughput of the cases was.
func noise(m *Model) string {
	var spreads []float64
	few := 0
	for _, f := range m.Floors {
		for _, x := range f.Benchmarks {
			for _, c := range x.Cases {
				q, ok := c.Get("ops/s")
				if !ok {
					q, ok = c.Get("ns/op")
				}
				if !ok {
					continue
				}
				if s, bounded := q.spread(); bounded {
					spreads = append(spreads, s)
				} else {
					few++
				}
			}
		}
	}
	need := fmt.Sprintf("an interval needs %d samples of a case", results.MinSamples)
	if len(spreads) == 0 {
		return "The noise is unknown: " + need + "."
	}
	slices.Sort(spreads)
	loud := 0
	for _, s := range spreads {
		if s > noisy {
			loud++
		}
	}
	s := fmt.Sprintf("The median of half of the cases is known to ±%.2g %%.", 100*spreads[len(spreads)/2])
	if loud > 0 {
		s += fmt.Sprintf(" %d of %s %s noisy, known to no better than ±%.0f %%: read small differences there as none.",
			loud, plural(len(spreads), "case"), be(loud), 100*noisy)
	}
	if few > 0 {
		s += fmt.Sprintf(" %d more have no interval: %s.", few, need)
	}
	return s
}
