package harness

import (
	"cmp"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// unknown stands for a reading that there is not.
var unknown = math.NaN()

// finish writes what the watcher saw. It runs when the benchmark has ended:
// values that it reported after its run belong to the line too.
func (w *watcher) finish() {
	defer func() {
		if err := w.meters.Close(); err != nil {
			w.ledger.complain(w.b, err)
		}
	}()
	switch {
	case w.b.Failed():
		missing(w.b, "the benchmark failed")
		return
	case w.b.Skipped():
		return // whoever skipped it left a record
	case w.invalid != "":
		// What was measured is kept as well, for whoever asks why.
		missing(w.b, "invalid twice: "+w.invalid)
	}
	series := w.series()
	if w.ledger.drift {
		w.findings = append(append(w.findings, findDrift(&series)...), w.uncounted()...)
		for _, f := range w.findings {
			remark(w.b, f)
		}
	}
	if !w.ledger.artifacts {
		return
	}
	dir := w.b.ArtifactDir()
	err := firstError(
		artifact.WriteSeries(dir, series),
		artifact.WriteMeters(dir, w.totals()),
		w.writeLatency(dir),
		artifact.WriteSample(dir, w.sample()),
	)
	if err != nil {
		w.ledger.complain(w.b, err)
	}
}

// sample describes the line.
func (w *watcher) sample() artifact.Sample {
	p := settings()
	order, index := w.ledger.number(w.b.Name())
	s := artifact.Sample{
		Package: w.ledger.pkg, Name: w.b.Name(), Procs: runtime.GOMAXPROCS(0),
		Process: w.ledger.environment.ID, Order: order, Index: index,
		Iterations: int64(w.b.N), Values: lineOf(w.b), Kinds: w.kinds,
		Mode: string(p.mode), Parameters: map[string]string{}, Seed: cmp.Or(w.spec.Seed, p.seed),
		Commit: w.ledger.environment.Commit, Modified: w.ledger.environment.Modified,
		Start: w.began, Elapsed: int64(w.elapsed), Invalid: w.invalid, Findings: w.findings,
	}
	for _, t := range p.table() {
		if t.Name != "dir" { // a path of somebody's machine
			s.Parameters[t.Name] = t.Value
		}
	}
	if len(w.ledger.profiles) > 0 {
		s.Findings = append(s.Findings, artifact.Finding{Reason: "profile",
			Text: "measured under profiles (" + strings.Join(w.ledger.profiles, ", ") + "), which cost time"})
	}
	return s
}

// lineOf returns the values that the line of b will carry. Package testing
// keeps them to itself, so this looks into its fields; a value that it cannot
// find is left out.
func lineOf(b *testing.B) map[string]float64 {
	values := map[string]float64{}
	v := reflect.ValueOf(b).Elem()
	n := float64(max(b.N, 1))
	values["ns/op"] = float64(b.Elapsed()) / n
	for unit, name := range map[string]string{"B/op": "netBytes", "allocs/op": "netAllocs"} {
		if f := v.FieldByName(name); f.IsValid() && f.Kind() == reflect.Uint64 {
			values[unit] = math.Floor(float64(f.Uint()) / n)
		}
	}
	if f := v.FieldByName("extra"); f.IsValid() && f.Kind() == reflect.Map {
		for it := f.MapRange(); it.Next(); {
			if it.Key().Kind() == reflect.String && it.Value().Kind() == reflect.Float64 {
				values[it.Key().String()] = it.Value().Float()
			}
		}
	}
	for unit, x := range values {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			delete(values, unit)
		}
	}
	return values
}

// writeLatency writes the latencies of each interval, if there were any.
func (w *watcher) writeLatency(dir string) error {
	if len(w.tracks) == 0 {
		return nil
	}
	log := measure.Log{Start: w.began}
	for i := 1; i < len(w.rows); i++ {
		for t, one := range w.tracks {
			log.Intervals = append(log.Intervals, measure.Interval{
				Tag: one.tag, From: w.rows[i-1].at, To: w.rows[i].at, Latency: w.rows[i].captures[t].Histogram(),
			})
		}
	}
	return artifact.WriteLatency(dir, log)
}

// remark puts a finding at the end of what standard error says.
func remark(b *testing.B, f artifact.Finding) {
	tail.remark("# " + f.Reason + " " + b.Name() + ": " + f.Text)
}
