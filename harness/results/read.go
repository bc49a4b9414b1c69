package results

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"golang.org/x/perf/benchfmt"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// MaxFileBytes bounds one file. A line is half a kilobyte, so this is more
// than a hundred thousand of them.
const MaxFileBytes = 64 << 20

// IncompleteMark begins the line that whoever drives a run leaves in its text
// when the run ended before its last case.
const IncompleteMark = "# phantom: incomplete: "

// invalidUnit is what a line carries that the harness condemned.
const invalidUnit = "invalid"

// skipMark begins the harness's remark on a case that was not measured.
const skipMark = "# skipped Benchmark"

// settingsMark begins the harness's remark on the parameters of a process.
const settingsMark = "# phantom: mode"

// A Set is what some files hold together.
type Set struct {
	Samples  []*Sample
	Skips    []Skip
	Problems []Problem
}

// ReadFiles reads benchmark text from files. It always returns a Set; what is
// wrong with the files is among its problems.
func ReadFiles(paths ...string) *Set {
	s := &Set{}
	for _, path := range paths {
		s.readFile(path)
	}
	s.compareMachines()
	return s
}

// Read is ReadFiles for one text that is no file; name stands for it in what
// is said about it.
func Read(name string, r io.Reader) *Set {
	s := &Set{}
	s.read(name, r)
	s.compareMachines()
	return s
}

func (s *Set) complain(kind Kind, file string, line int, format string, args ...any) {
	s.Problems = append(s.Problems, Problem{kind, file, line, fmt.Sprintf(format, args...)})
}

func (s *Set) readFile(path string) {
	f, err := os.Open(path)
	if err != nil {
		s.complain(Unreadable, path, 0, "%v: expected a file of benchmark text", errors.Unwrap(err))
		return
	}
	defer f.Close()
	s.read(path, f)
}

func (s *Set) read(name string, r io.Reader) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	switch {
	case err != nil:
		s.complain(Unreadable, name, 0, "%v: expected a file of benchmark text", err)
		return
	case len(text) > MaxFileBytes:
		s.complain(Unreadable, name, 0, "larger than %d MiB: expected benchmark text, of which a line is half a kilobyte", MaxFileBytes>>20)
		return
	case bytes.IndexByte(text, 0) >= 0:
		s.complain(Unreadable, name, 1+bytes.Count(text[:bytes.IndexByte(text, 0)], []byte("\n")), "a zero byte: expected text")
		return
	}
	p := &parser{set: s, file: name, declared: map[string]bool{}, parsed: map[int]bool{}, unknown: map[string]bool{}, samples: map[int]*Sample{}}
	p.rows = strings.Split(string(text), "\n")
	p.records(text)
	p.lines(text)
	p.whole(text)
}

// A parser reads one file.
type parser struct {
	set      *Set
	file     string
	declared map[string]bool // units that the text declares
	parsed   map[int]bool    // lines that became a sample or a problem
	unknown  map[string]bool // units complained about
	samples  map[int]*Sample // by line
	rows     []string        // the lines
	foreign  int             // the first line of a result that no harness made; 0: none
}

// records reads what benchfmt understands.
func (p *parser) records(text []byte) {
	r := benchfmt.NewReader(bytes.NewReader(text), p.file)
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.UnitMetadata:
			p.declared[rec.OrigUnit] = true
		case *benchfmt.SyntaxError:
			p.parsed[rec.Line] = true
			if p.broken(rec.Line) {
				continue
			}
			p.set.complain(Syntax, p.file, rec.Line, "%s: expected a name, a number of iterations, and pairs of value and unit", rec.Msg)
		case *benchfmt.Result:
			p.result(rec)
		}
	}
	if err := r.Err(); err != nil {
		p.set.complain(Syntax, p.file, 0, "%v: expected shorter lines", err)
	}
}

func (p *parser) result(r *benchfmt.Result) {
	_, line := r.Pos()
	p.parsed[line] = true
	s := &Sample{
		Package: r.GetConfig("pkg"), Iterations: r.Iters, Mode: r.GetConfig("phantom-mode"),
		Machine: Machine{r.GetConfig("goos"), r.GetConfig("goarch"), r.GetConfig("cpu"), r.GetConfig("phantom-fs")},
		File:    p.file, Line: line,
	}
	s.Name, s.Base, s.Keys, s.Procs = splitName(r.Name.String())
	p.samples[line] = s
	if s.Mode == "" && p.foreign == 0 {
		p.foreign = line
	}
	for _, v := range r.Values {
		value := Value{v.Unit, v.Value}
		if v.OrigUnit != "" {
			value = Value{v.OrigUnit, v.OrigValue}
		}
		if math.IsNaN(value.Value) || math.IsInf(value.Value, 0) {
			p.set.complain(Syntax, p.file, line, "%v %s of %s: expected a finite number", value.Value, value.Unit, s.Name)
			continue
		}
		if !p.declared[value.Unit] && !measure.Known(value.Unit) && !p.unknown[value.Unit] {
			p.unknown[value.Unit] = true
			p.set.complain(UnknownUnit, p.file, line, "unit %q of %s: expected one that the harness knows, or a line such as \"Unit %s better=lower\" above",
				value.Unit, s.Name, value.Unit)
		}
		s.Invalid = s.Invalid || value.Unit == invalidUnit && value.Value != 0
		s.Values = append(s.Values, value)
	}
	p.set.Samples = append(p.set.Samples, s)
}

// lines looks at those that benchfmt passes over.
func (p *parser) lines(text []byte) {
	announced := false // package testing announces names on lines of their own under -v
	var given []Key    // of the process whose output this is
	pkg, open := "", 0 // the package, and the last of its results while its end is not there
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case p.samples[n] != nil:
			p.samples[n].Given, open = given, n
		case p.parsed[n]:
		case strings.HasPrefix(line, "pkg: "):
			p.ended(pkg, open)
			pkg, open = word(line, "pkg: "), 0
		case strings.HasPrefix(line, settingsMark):
			given = settings(line)
		case line == "PASS", line == "FAIL":
			given, open = nil, 0
		case strings.HasPrefix(line, "ok  \t"):
			open = 0 // of go test; PASS may stand behind what another stream left open
		case strings.HasPrefix(line, "=== RUN"):
			announced = true
			continue
		case strings.HasPrefix(line, IncompleteMark):
			open = 0 // said for all of it
			p.set.complain(Interrupted, p.file, n, "the run is incomplete: %s", strings.TrimPrefix(line, IncompleteMark))
		case strings.Contains(line, skipMark):
			_, rest, _ := strings.Cut(line, skipMark)
			name, why, _ := strings.Cut(rest, ": ")
			p.set.Skips = append(p.set.Skips, Skip{Package: pkg, Name: name, Why: why, File: p.file, Line: n})
		case strings.HasPrefix(line, "--- FAIL: "):
			p.set.complain(Failed, p.file, n, "%s failed: expected it to pass", word(line, "--- FAIL: "))
		case strings.HasPrefix(line, "FAIL\t"):
			open = 0
			p.set.complain(Failed, p.file, n, "package %s failed: expected it to pass", word(line, "FAIL\t"))
		case strings.HasPrefix(line, "Benchmark") && !announced && p.broken(n):
		case strings.HasPrefix(line, "Benchmark") && !announced, strings.Contains(line, " ns/op"):
			p.set.complain(Syntax, p.file, n, "a result that is cut into pieces, %q: expected a whole line", clip(line))
		}
		announced = false
	}
	if len(text) > 0 && text[len(text)-1] == '\n' {
		p.ended(pkg, open)
	}
}

// ended complains if the results of a package end without what package testing
// prints behind the last of them: a process that was killed leaves whole lines,
// and rows of fewer samples than were asked for.
func (p *parser) ended(pkg string, open int) {
	if open > 0 && pkg != "" {
		p.set.complain(Interrupted, p.file, open, "the results of %s end here: expected PASS or FAIL behind them", pkg)
	}
}

// broken complains about a name that stands without its result, if that is
// because the benchmark failed: package testing prints the name before a sample
// after the first, so the failure of that one ends the same line; and where the
// process ended in the middle of a sample, the package fails before another
// result. The text is sound then, and what it lacks is said.
func (p *parser) broken(n int) bool {
	row := p.rows[n-1]
	name := strings.TrimPrefix(word(row, ""), "Benchmark")
	if _, rest, ok := strings.Cut(row, "--- FAIL: "); ok {
		p.set.complain(Failed, p.file, n, "%s failed: expected it to pass", word(rest, ""))
		return true
	}
	for _, next := range p.rows[n:] {
		switch {
		case strings.HasPrefix(next, "FAIL\t"):
			p.set.complain(Failed, p.file, n, "Benchmark%s ended without a result, and its process with it: expected it to pass", name)
			return true
		case strings.HasPrefix(next, "Benchmark"), strings.HasPrefix(next, "ok "), strings.HasPrefix(next, "PASS"), strings.HasPrefix(next, "pkg: "):
			return false
		}
	}
	return false
}

// settings takes the parameters that were set from the remark on all of them.
func settings(line string) (given []Key) {
	for word := range strings.FieldsSeq(line) {
		if name, value, ok := strings.Cut(word, "!="); ok {
			given = append(given, Key{Name: name, Value: value})
		}
	}
	return given
}

// whole judges the file at its end.
func (p *parser) whole(text []byte) {
	last := bytes.Count(text, []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		p.set.complain(Truncated, p.file, last+1, "the text ends in the middle of a line: expected a line end")
	}
	switch {
	case len(p.samples) == 0:
		p.set.complain(Empty, p.file, 0, "no benchmark results: expected the output of go test -run='^$' -bench=.")
	case p.foreign != 0:
		p.set.complain(Foreign, p.file, p.foreign, "a result without a phantom-mode line above it: expected the output of benchmarks whose package calls harness.Main")
	}
}

// compareMachines complains once for each machine beside the first.
func (s *Set) compareMachines() {
	seen := map[Machine]bool{}
	for _, sample := range s.Samples {
		if seen[sample.Machine] {
			continue
		}
		if seen[sample.Machine] = true; len(seen) > 1 {
			first := s.Samples[0]
			s.complain(Mixed, sample.File, sample.Line, "measured on %v, and %s:%d on %v: expected one machine",
				sample.Machine, first.File, first.Line, first.Machine)
		}
	}
}

// word returns what follows prefix up to the next space.
func word(line, prefix string) string {
	rest := strings.TrimPrefix(line, prefix)
	if i := strings.IndexAny(rest, " \t"); i >= 0 {
		rest = rest[:i]
	}
	return clip(rest)
}

// clip shortens what is quoted of a line.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
