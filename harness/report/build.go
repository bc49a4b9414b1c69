package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

// Input is what a report is made from.
type Input struct {
	// Set holds the results. Of its problems, those of results.Kind.Bad other
	// than results.Mixed must have been refused before: the report could not
	// tell which numbers are left.
	Set *results.Set
	// Entries are the baselines to judge by; none gives no verdict.
	Entries []*baseline.Entry
	// Artifacts are those of the same runs; nil if there are none. Build gives
	// its samples away, see artifact.Tree.Bind.
	Artifacts *artifact.Tree
	// Sources name the files of results.
	Sources []string
	// Made is when the report is made.
	Made time.Time
}

// Build gathers everything there is to say. It returns an error if a file of the
// artifacts cannot be read; there is no Model then.
func Build(in Input) (*Model, error) {
	m := &Model{Schema: Schema, Made: in.Made.UTC().Truncate(time.Second), Sources: in.Sources, Samples: len(in.Set.Samples)}
	in.Set = withMissing(in.Set, in.Artifacts)
	b := &builder{in: in, model: m, machines: map[results.Machine]int{}, ids: map[rowID]string{}}
	rows := b.rows()
	b.machineFacts()
	b.judge()
	b.bind()
	chosen := b.choose(rows)
	for _, row := range rows {
		if err := b.add(row, chosen[row.id]); err != nil {
			return nil, err
		}
	}
	b.sortFloors()
	b.notices()
	m.Noise = noise(m)
	m.Evidence = b.evidenceText(len(chosen))
	return m, nil
}

// withMissing adds the cases that the artifacts know as not measured, but for
// those that the text remarks on itself.
func withMissing(set *results.Set, tree *artifact.Tree) *results.Set {
	if tree == nil {
		return set
	}
	all := *set
	all.Skips = slices.Clip(set.Skips)
	all.AddMissing(tree.Missing, "artifacts")
	return &all
}

// A builder holds what one Build knows on the way.
type builder struct {
	in       Input
	model    *Model
	machines map[results.Machine]int
	ids      map[rowID]string // case IDs by what findings name
	bound    map[*results.Sample]boundFolder
	judged   map[string]bool // cases that a baseline is about
	lost     int             // samples without artifacts, where there are artifacts
}

// rowID is what tells the rows of one machine apart.
type rowID struct {
	pkg, name, mode string
	procs, machine  int
}

// A row is the samples of a case on one machine, with the ID of the case.
type row struct {
	*results.Row
	machine int
	id      string
}

// rows gathers the samples by machine and case. Medians over machines would be
// of nothing.
func (b *builder) rows() []row {
	var sets []*results.Set
	for _, s := range b.in.Set.Samples {
		i, ok := b.machines[s.Machine]
		if !ok {
			i = len(sets)
			b.machines[s.Machine] = i
			sets = append(sets, &results.Set{})
			b.model.Machines = append(b.model.Machines, Machine{OS: s.Machine.OS, Arch: s.Machine.Arch, CPU: s.Machine.CPU, FileSystem: s.Machine.FileSystem})
		}
		b.model.Machines[i].Samples++
		sets[i].Samples = append(sets[i].Samples, s)
		if !slices.Contains(b.model.Modes, s.Mode) {
			b.model.Modes = append(b.model.Modes, s.Mode)
		}
	}
	var list []row
	for i, set := range sets {
		for _, r := range set.Rows() {
			id := fmt.Sprintf("c%d", len(list)+1)
			b.ids[rowID{r.Package, r.Name, r.Mode, r.Procs, i}] = id
			list = append(list, row{r, i, id})
		}
	}
	b.model.Cases = len(list)
	return list
}

// judge fills in the baselines and the verdict. Results of several machines have
// none: a promise is about one.
func (b *builder) judge() {
	b.judged = map[string]bool{}
	if len(b.machines) > 1 {
		b.model.Verdict = Verdict{State: StateOpen, Sentence: "No verdict: the results come from different machines.",
			Detail: "Make a report of each machine; an expectation is judged on one."}
		return
	}
	findings := baseline.Judge(b.in.Entries, b.in.Set)
	for _, f := range findings {
		e := Expectation{Statement: f.Statement(), Case: b.ids[rowID{f.Entry.Package, f.Row, f.Mode, f.Procs, 0}]}
		e.Expected = strings.Replace(e.Expected, "+-", "±", 1)
		b.judged[e.Case] = true
		b.model.Baselines = append(b.model.Baselines, e)
	}
	slices.SortStableFunc(b.model.Baselines, func(x, y Expectation) int {
		return cmp.Or(slices.Index(verdictOrder, x.Verdict)-slices.Index(verdictOrder, y.Verdict),
			slices.Index(kindOrder, x.Kind)-slices.Index(kindOrder, y.Kind))
	})
	b.model.Verdict = verdict(findings)
}

// What a reader must see comes first: what is missed, then what is open, then
// what is kept; promises before counters.
var (
	verdictOrder = []baseline.Verdict{baseline.Miss, baseline.Noise, baseline.Pass, baseline.Missing, baseline.NotApplicable}
	kindOrder    = []baseline.Kind{baseline.Level, baseline.Scaling, baseline.Band}
)

// verdict puts findings into a sentence.
func verdict(findings []baseline.Finding) Verdict {
	count := map[baseline.Verdict]int{}
	for _, f := range findings {
		count[f.Verdict]++
	}
	v := Verdict{State: StateKept}
	for _, one := range verdictOrder {
		if count[one] > 0 {
			v.Counts = append(v.Counts, Tally{one, count[one]})
		}
	}
	judged := len(findings) - count[baseline.NotApplicable]
	open := count[baseline.Missing] + count[baseline.Noise]
	switch {
	case len(findings) == 0:
		v.State, v.Sentence = StateNone, "No verdict: no baselines were given."
	case judged == 0:
		v.State, v.Sentence = StateNone, "No verdict: none of the expectations applies to these results."
	case count[baseline.Miss] > 0:
		v.State, v.Sentence = StateMissed, fmt.Sprintf("%d of %s %s missed.", count[baseline.Miss], plural(judged, "expectation"), be(count[baseline.Miss]))
	case open > 0:
		v.State, v.Sentence = StateOpen, fmt.Sprintf("Nothing is missed, but %d of %s %s open.", open, plural(judged, "expectation"), be(open))
	default:
		v.Sentence = fmt.Sprintf("%d of %s %s kept.", judged, plural(judged, "expectation"), be(judged))
	}
	v.Detail = tell(count)
	return v
}

// be agrees with a number.
func be(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// tell is every count in words, the bad ones first.
func tell(count map[baseline.Verdict]int) string {
	var parts []string
	for _, one := range []struct {
		v    baseline.Verdict
		text string
	}{
		{baseline.Miss, "missed"}, {baseline.Noise, "within noise, where more samples will tell"},
		{baseline.Missing, "not measured, which is not passing"}, {baseline.Pass, "kept"}, {baseline.NotApplicable, "not applicable to this mode"},
	} {
		if n := count[one.v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, one.text))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + "."
}

// quantity is a summary without what JSON has no number for.
func quantity(unit string, s results.Summary) Quantity {
	q := Quantity{Unit: unit, N: s.N, Median: s.Median}
	if s.Bounded() {
		q.Low, q.High = &s.Low, &s.High
	}
	return q
}

// add makes a case of a row and puts it where it belongs.
func (b *builder) add(r row, charts bool) error {
	c := Case{ID: r.id, Name: r.Name, Processors: r.Procs, Mode: r.Mode, Machine: r.machine}
	values := map[string][]float64{}
	var units []string // in the order of the lines
	const mostLines = 8
	seed := ""
	for _, s := range r.Samples {
		if len(c.Lines) < mostLines {
			c.Lines = append(c.Lines, fmt.Sprintf("%s:%d", s.File, s.Line))
		}
		if condemned(s) {
			continue
		}
		c.Samples++
		c.Operations += s.Iterations
		for _, v := range s.Values {
			if values[v.Unit] == nil {
				units = append(units, v.Unit)
			}
			values[v.Unit] = append(values[v.Unit], v.Value)
		}
		if f, ok := b.bound[s]; ok {
			seed = fmt.Sprint(f.Sample.Seed)
		}
	}
	for _, u := range units {
		c.Quantities = append(c.Quantities, quantity(u, results.Summarize(values[u])))
	}
	if bad := len(r.Samples) - c.Samples; bad > 0 {
		c.Invalid = fmt.Sprintf("%d of %s invalid and left out", bad, plural(len(r.Samples), "sample"))
	}
	c.Command = command(r.Row, seed)
	if charts {
		e, err := b.evidence(r)
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		c.Evidence = e
	}
	b.benchmark(r).Cases = append(b.benchmark(r).Cases, c)
	return nil
}

// condemned reports whether the harness marked a line as measured and not to be
// used. Such a line has no other figure.
func condemned(s *results.Sample) bool { return s.Invalid }
