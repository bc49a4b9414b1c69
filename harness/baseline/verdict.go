package baseline

import (
	"fmt"
	"math"
	"strings"

	"github.com/phantomdb/phantomdb/harness/results"
)

// A Verdict is what results say of an expectation.
type Verdict string

// The verdicts, as they are printed.
const (
	Pass Verdict = "pass"
	Miss Verdict = "miss"
	// Noise means that the limit lies inside the interval of the samples, so
	// that they do not tell.
	Noise Verdict = "within noise"
	// Missing means that the benchmark, its unit, or enough operations of it
	// are not there.
	Missing Verdict = "missing"
	// NotApplicable means that there are no results of the entry's modes.
	NotApplicable Verdict = "not applicable"
)

// A Finding is the verdict on one entry for one row of results.
type Finding struct {
	Entry   *Entry
	Verdict Verdict
	// Row is the benchmark as the results name it; the entry's where there is
	// none. Procs and Mode are those of the row.
	Row   string
	Procs int
	Mode  string
	// Summary is that of the samples, or of the quantity that a law derives
	// from them. N is 0 if nothing was measured.
	Summary results.Summary
	// Margin is the distance to the limit in the good direction, as a share of
	// the limit; for a band, the share of the allowance that is left. Negative:
	// missed.
	Margin float64
	// Note is a sentence that explains the verdict, where it needs one.
	Note string
}

// Expected says in words what the entry asks for.
func (e *Entry) Expected() string {
	switch {
	case e.Kind != Band:
	case e.Allow == 0:
		return fmt.Sprintf("= %.6g", e.Value)
	case e.relative:
		return fmt.Sprintf("%.6g +- %.3g %%", e.Value, 100*e.Allow/e.Value)
	default:
		return fmt.Sprintf("%.6g +- %.3g", e.Value, e.Allow)
	}
	return e.Limit.Text
}

// maxErrors is the share of failed operations up to which a level can be kept:
// latency and throughput count successes alone, so a system that fails fast
// would keep them all.
const maxErrors = 0.01

// electionsUnit counts the elections during a sample.
const electionsUnit = "elections"

// Judge returns the findings on every entry, in their order. An entry with a
// key of any value has one for each row, a law one for all its rows; every entry
// has one at least.
func Judge(entries []*Entry, set *results.Set) []Finding {
	rows := set.Rows()
	var list []Finding
	for _, e := range entries {
		list = append(list, e.judge(rows, set)...)
	}
	return list
}

func (e *Entry) judge(rows []*results.Row, set *results.Set) []Finding {
	var mine []*results.Row
	modes := false
	for _, row := range rows {
		if !e.applies(row.Mode) {
			continue
		}
		modes = true
		if row.Package == e.Package && e.names(row.Name) {
			mine = append(mine, row)
		}
	}
	switch {
	case !modes:
		return []Finding{e.without(NotApplicable, "no results of mode "+strings.Join(e.Modes, " or "))}
	case len(mine) == 0:
		return []Finding{e.without(Missing, e.whyMissing(set))}
	case e.Kind == Scaling:
		return e.judgeLaw(mine, set)
	}
	var list []Finding
	for _, row := range mine {
		f := e.judgeRow(row)
		f.disturbed(row)
		f.incomplete(row, set)
		list = append(list, f)
	}
	return list
}

// disturbed looks for elections that nobody asked for: those samples measured
// something else beside what they are named after, so they cannot keep an
// expectation. One that they miss stays missed.
func (f *Finding) disturbed(row *results.Row) {
	n := 0
	for _, v := range row.Values(electionsUnit) {
		if v > 0 {
			n++
		}
	}
	if n == 0 || f.Entry.Unit == electionsUnit {
		return
	}
	if f.Verdict == Pass {
		f.Verdict = Noise
	}
	f.remark(fmt.Sprintf("%d of %d samples had elections, which they are not about", n, len(row.Samples)))
}

// incomplete looks for samples of a row that were not measured or are invalid.
// Those that are left are a choice: a system that saturates in five runs of six
// would pass by the sixth. So they cannot keep an expectation, though they can
// miss it.
func (f *Finding) incomplete(row *results.Row, set *results.Set) {
	note := missingSamples(row, set)
	if note == "" {
		return
	}
	if f.Verdict != Miss {
		f.Verdict = Missing
	}
	f.remark(note)
}

// missingSamples says how many samples of a row are missing; "" if none is.
func missingSamples(row *results.Row, set *results.Set) string {
	skips, why := 0, ""
	for _, s := range set.Skips {
		if s.Of(row.Package, row.Name) {
			if skips++; skips == 1 {
				why = ", the first: " + s.String()
			}
		}
	}
	// An invalid sample has both a line and a remark, a skipped one the remark.
	invalid := row.Invalid()
	lost := max(skips, invalid)
	if lost == 0 {
		return ""
	}
	if why == "" {
		why = ": invalid"
	}
	return fmt.Sprintf("%d of %d samples are missing%s", lost, len(row.Samples)-invalid+lost, why)
}

// remark adds a sentence to those that explain the verdict.
func (f *Finding) remark(text string) {
	if f.Note != "" {
		text = f.Note + "; " + text
	}
	f.Note = text
}

// applies reports whether results of a mode count.
func (e *Entry) applies(mode string) bool {
	if len(e.Modes) == 0 {
		return true
	}
	for _, m := range e.Modes {
		if m == mode {
			return true
		}
	}
	return false
}

// names reports whether a row is the entry's: equal but for the value of the
// key that is *.
func (e *Entry) names(row string) bool {
	before, after, open := strings.Cut(e.Bench, "=*")
	if !open {
		return row == e.Bench
	}
	rest, ok := strings.CutPrefix(row, before+"=")
	if !ok || !strings.HasSuffix(rest, after) {
		return false
	}
	value := strings.TrimSuffix(rest, after)
	return value != "" && !strings.Contains(value, "/")
}

func (e *Entry) without(v Verdict, note string) Finding {
	return Finding{Entry: e, Verdict: v, Row: e.Bench, Note: note}
}

// whyMissing looks for a remark of the harness that a case was skipped.
func (e *Entry) whyMissing(set *results.Set) string {
	for _, s := range set.Skips {
		if e.names(s.Name) && s.Of(e.Package, s.Name) {
			return s.String()
		}
	}
	return "no such benchmark in the results"
}

// counted returns a row without the invalid samples and those of too few
// operations, and what to say of the latter.
func (e *Entry) counted(row *results.Row) (*results.Row, string) {
	kept := &results.Row{Package: row.Package, Name: row.Name, Mode: row.Mode, Procs: row.Procs}
	most, valid := 0, 0
	for _, s := range row.Samples {
		if s.Invalid {
			continue
		}
		valid++
		most = max(most, s.Iterations)
		if s.Iterations >= e.Least {
			kept.Samples = append(kept.Samples, s)
		}
	}
	if len(kept.Samples) == valid {
		return kept, ""
	}
	if len(kept.Samples) == 0 {
		return kept, fmt.Sprintf("%d operations at most: at least %d count", most, e.Least)
	}
	return kept, fmt.Sprintf("%d of %d samples have fewer than %d operations", valid-len(kept.Samples), valid, e.Least)
}

func (e *Entry) judgeRow(row *results.Row) Finding {
	f := Finding{Entry: e, Row: row.Name, Procs: row.Procs, Mode: row.Mode}
	kept, note := e.counted(row)
	f.Note = note
	values := kept.Values(e.Unit)
	if len(values) == 0 {
		f.Verdict = Missing
		if note == "" && row.Invalid() < len(row.Samples) {
			f.Note = "the benchmark does not print " + e.Unit
		}
		return f
	}
	f.Summary = results.Summarize(values)
	switch {
	case e.Kind == Band && e.Allow == 0:
		f.judgeExact(kept)
	case e.Kind == Band:
		f.judgeBand()
	default:
		f.judgeLimit()
	}
	if errs := kept.Values("errors/op"); e.Kind == Level && len(errs) > 0 {
		if s := results.Summarize(errs); s.Median > maxErrors {
			f.Verdict = Miss
			f.Note = fmt.Sprintf("%.3g of the operations failed: at most %g may", s.Median, maxErrors)
		}
	}
	return f
}

// judgeLimit compares the summary with the entry's limit.
func (f *Finding) judgeLimit() {
	l := f.Entry.Limit
	f.Margin = l.margin(f.Summary.Median)
	f.Verdict = Miss
	if l.keeps(f.Summary.Median) {
		f.Verdict = Pass
	}
	if f.Summary.Covers(l.Value) && f.Summary.Low < f.Summary.High {
		f.Verdict = Noise
	}
}

// judgeBand compares the summary with the entry's band. Better than the band is
// a miss too: a counter that fell without anyone having meant it is as
// suspicious as one that rose, and a stale band hides the next rise.
func (f *Finding) judgeBand() {
	e, s := f.Entry, f.Summary
	low, high := e.Value-e.Allow, e.Value+e.Allow
	f.Margin = 1 - math.Abs(s.Median-e.Value)/e.Allow
	f.Verdict = Pass
	if s.Median < low || s.Median > high {
		f.Verdict = Miss
		f.whenBetter(s.Median > high)
	}
	if s.Low < s.High && (s.Covers(low) || s.Covers(high)) {
		f.Verdict = Noise
	}
}

// judgeExact compares every sample with a band that allows nothing. A counter
// that deviates once is not exact, and a median would hide that.
func (f *Finding) judgeExact(kept *results.Row) {
	e := f.Entry
	f.Verdict = Pass
	for _, s := range kept.Samples {
		v, ok := s.Get(e.Unit)
		if !ok || v == e.Value {
			continue
		}
		f.Verdict, f.Margin = Miss, -1
		f.remark(fmt.Sprintf("%s:%d: %.10g: every sample must be %.10g", s.File, s.Line, v, e.Value))
		f.whenBetter(v > e.Value)
		return
	}
}

// whenBetter tells whoever missed a band on its good side what to do.
func (f *Finding) whenBetter(above bool) {
	if above == higherIsBetter(f.Entry.Unit) {
		f.remark("better than the band: if that is meant, write the new value")
	}
}

// Status is what findings mean together, as the exit status of a command: 1 if
// an expectation was missed, else 3 if one is missing or within noise or if none
// applies, else 0. Where nothing was judged nothing was kept.
func Status(list []Finding) int {
	status := 3
	for _, f := range list {
		if f.Verdict == Pass {
			status = 0
			break
		}
	}
	for _, f := range list {
		switch f.Verdict {
		case Miss:
			return 1
		case Missing, Noise:
			status = 3
		}
	}
	return status
}
