package baseline

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// Extension ends the names of baseline files in a folder.
const Extension = ".baseline"

// maxFileBytes bounds one file: an entry is a quarter of a kilobyte.
const maxFileBytes = 4 << 20

// A SyntaxError tells what is wrong with a baseline file, and where.
type SyntaxError struct {
	File string
	Line int
	Err  error
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

func (e *SyntaxError) Unwrap() error { return e.Err }

// Load reads a baseline file, or all of a folder. A folder without any is an
// error: it would let everything pass. All that is wrong with the files is in
// the error.
func Load(path string) ([]*Entry, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w: expected a file or a folder of *%s", err, Extension)
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*"+Extension)); err != nil {
			return nil, fmt.Errorf("baseline: %s: %w", path, err)
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("baseline: %s: no file *%s: expected one at least", path, Extension)
		}
	}
	slices.Sort(files)
	var entries []*Entry
	var errs []error
	for _, file := range files {
		list, err := loadFile(file)
		entries = append(entries, list...)
		errs = append(errs, err)
	}
	errs = append(errs, unique(entries)...)
	return entries, errors.Join(errs...)
}

func loadFile(path string) ([]*Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	defer f.Close()
	return Parse(path, f)
}

// unique complains about entries of one name.
func unique(entries []*Entry) (errs []error) {
	first := map[string]*Entry{}
	for _, e := range entries {
		if f := first[e.Name]; f != nil {
			errs = append(errs, &SyntaxError{e.File, e.Line, fmt.Errorf("%s %s: the name is taken at %s:%d: expected another", e.Kind, e.Name, f.File, f.Line)})
			continue
		}
		first[e.Name] = e
	}
	return errs
}

// Parse reads one baseline file; name stands for it in errors, which are all
// *SyntaxError, joined.
func Parse(name string, r io.Reader) ([]*Entry, error) {
	p := &parser{file: name}
	lines := bufio.NewScanner(io.LimitReader(r, maxFileBytes+1))
	read := 0
	for lines.Scan() {
		p.line++
		text := lines.Text()
		if read += len(text) + 1; read > maxFileBytes {
			p.complain(p.line, "more than %d MiB: expected a file that people read", maxFileBytes>>20)
			break
		}
		p.take(text)
	}
	if err := lines.Err(); err != nil {
		p.complain(p.line+1, "%v: expected lines of text", err)
	}
	p.end()
	if len(p.entries) == 0 && len(p.errs) == 0 {
		p.complain(1, "no entry: expected level, band or scaling and a name")
	}
	return p.entries, errors.Join(p.errs...)
}

// A parser gathers the lines of one entry and then makes it.
type parser struct {
	file    string
	line    int
	entries []*Entry
	errs    []error

	entry  *Entry // nil between entries
	bad    bool   // the entry has been complained about
	fields []field
}

type field struct {
	name, value string
	line        int
}

func (p *parser) complain(line int, format string, args ...any) {
	p.bad = true
	p.errs = append(p.errs, &SyntaxError{p.file, line, fmt.Errorf(format, args...)})
}

// take takes one line.
func (p *parser) take(text string) {
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "":
		p.end()
	case strings.HasPrefix(trimmed, "#"):
	case text[0] == ' ' || text[0] == '\t':
		if len(p.fields) == 0 {
			p.complain(p.line, "an indented line %q: expected it below a field", clip(trimmed))
			return
		}
		p.fields[len(p.fields)-1].value += " " + trimmed
	case p.entry == nil:
		p.begin(trimmed)
	default:
		name, value, ok := strings.Cut(trimmed, ":")
		if !ok {
			p.complain(p.line, "%q: expected a field and a colon, or an empty line before the next entry", clip(trimmed))
			return
		}
		if slices.ContainsFunc(p.fields, func(f field) bool { return f.name == name }) {
			p.complain(p.line, "field %s for the second time: expected it once", name)
			return
		}
		p.fields = append(p.fields, field{name, strings.TrimSpace(value), p.line})
	}
}

// begin starts an entry with its first line.
func (p *parser) begin(text string) {
	p.entry, p.bad, p.fields = &Entry{File: p.file, Line: p.line, Least: defaultLeast}, false, nil
	words := strings.Fields(text)
	if len(words) != 2 || !slices.Contains([]Kind{Level, Band, Scaling}, Kind(words[0])) {
		p.complain(p.line, "%q: expected level, band or scaling and a name of one word", clip(text))
		return
	}
	p.entry.Kind, p.entry.Name = Kind(words[0]), words[1]
}

// end makes the entry.
func (p *parser) end() {
	e := p.entry
	if e == nil {
		return
	}
	p.entry = nil
	if p.bad {
		return
	}
	// The unit first: what a number means depends on it.
	slices.SortStableFunc(p.fields, func(a, b field) int {
		return strings.Compare(strconv.FormatBool(b.name == "unit"), strconv.FormatBool(a.name == "unit"))
	})
	given := map[string]bool{}
	for _, f := range p.fields {
		given[f.name] = true
		if err := e.set(f.name, f.value); err != nil {
			p.complain(f.line, "%s %s: %w", e.Kind, e.Name, err)
		}
	}
	if p.bad {
		return
	}
	if e.Kind == Band && (!given["value"] || !given["allow"]) {
		p.complain(e.Line, "band %s: no value or no allow: expected both", e.Name)
		return
	}
	if e.relative {
		e.Allow *= e.Value // wherever the two stand
	}
	if err := e.check(); err != nil {
		p.complain(e.Line, "%s %s: %w", e.Kind, e.Name, err)
		return
	}
	p.entries = append(p.entries, e)
}

// fieldsOf are the fields that each kind has beside those of all.
var fieldsOf = map[Kind][]string{
	Level:   {"limit"},
	Band:    {"value", "allow", "runs"},
	Scaling: {"limit", "law", "from", "to", "points"},
}

var commonFields = []string{"bench", "unit", "modes", "least", "reason"}

// set sets one field.
func (e *Entry) set(name, value string) (err error) {
	if !slices.Contains(commonFields, name) && !slices.Contains(fieldsOf[e.Kind], name) {
		return fmt.Errorf("field %s: expected one of %s, %s", name, strings.Join(commonFields, ", "), strings.Join(fieldsOf[e.Kind], ", "))
	}
	if value == "" {
		return fmt.Errorf("field %s is empty: expected a value", name)
	}
	switch name {
	case "bench":
		return e.setBench(value)
	case "unit":
		if e.Unit = value; !measure.Known(value) {
			return fmt.Errorf("unit %q: expected one that the harness knows", value)
		}
	case "reason":
		e.Reason = value
	case "modes":
		err = e.setModes(value)
	case "law":
		e.Law = value
	case "limit":
		e.Limit, err = parseLimit(value, e.Unit)
	case "value":
		e.Value, err = parseNumber(value, e.Unit)
	case "allow":
		e.Allow, err = parseNumber(value, e.Unit)
		e.relative = strings.HasSuffix(value, "%")
	case "least":
		e.Least, err = parseCount(value)
	case "runs":
		e.Runs, err = parseCount(value)
	case "points":
		e.Points, err = parseCounts(value)
	case "from":
		e.From, err = parseCount(value)
	case "to":
		e.To, err = parseCount(value)
	}
	if err != nil {
		return fmt.Errorf("field %s: %w", name, err)
	}
	return nil
}

// setBench reads a package and a benchmark.
func (e *Entry) setBench(value string) error {
	words := strings.Fields(value)
	if len(words) != 2 {
		return fmt.Errorf("field bench: %q: expected a package and a benchmark", clip(value))
	}
	e.Package, e.Bench = words[0], strings.TrimPrefix(words[1], "Benchmark")
	if first, _, _ := strings.Cut(e.Package, "/"); !strings.Contains(first, ".") {
		e.Package = module + "/" + e.Package
	} else if e.Package == "." {
		e.Package = module
	}
	return nil
}

// setModes reads a list of modes. One that does not exist would never apply, and
// the entry would be silent for ever.
func (e *Entry) setModes(value string) error {
	for _, name := range list(value) {
		if !slices.Contains(harness.Modes(), harness.Mode(name)) {
			return fmt.Errorf("mode %q: expected one of %v", clip(name), harness.Modes())
		}
		e.Modes = append(e.Modes, name)
	}
	if len(e.Modes) == 0 {
		return fmt.Errorf("%q: expected some of %v", clip(value), harness.Modes())
	}
	return nil
}

// list takes a value apart at commas and spaces.
func list(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}

func parseCounts(s string) (counts []int, err error) {
	for _, word := range list(s) {
		n, err := parseCount(word)
		if err != nil {
			return nil, err
		}
		counts = append(counts, n)
	}
	if len(counts) == 0 {
		return nil, fmt.Errorf("%q: expected integers", clip(s))
	}
	return counts, nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q: expected an integer of at least 1", clip(s))
	}
	return n, nil
}

// parseLimit reads "< 5ms".
func parseLimit(s, unit string) (Limit, error) {
	op := s[:len(s)-len(strings.TrimLeft(s, "<>="))]
	if !slices.Contains([]string{"<", "<=", ">", ">="}, op) {
		return Limit{}, fmt.Errorf("%q: expected <, <=, > or >= and a number", clip(s))
	}
	v, err := parseNumber(strings.TrimSpace(s[len(op):]), unit)
	return Limit{Op: op, Value: v, Text: s}, err
}

// parseNumber reads a number, a percentage, or a time where the unit is one.
func parseNumber(s, unit string) (v float64, err error) {
	if share, ok := strings.CutSuffix(s, "%"); ok {
		v, err = strconv.ParseFloat(share, 64)
		v /= 100
	} else if v, err = strconv.ParseFloat(s, 64); err != nil && nanoseconds(unit) {
		var d time.Duration
		d, err = time.ParseDuration(s)
		v = float64(d)
	}
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		want := "expected a number or a percentage"
		if nanoseconds(unit) {
			want = "expected a time such as 5ms"
		}
		return 0, fmt.Errorf("%q: %s", clip(s), want)
	}
	return v, nil
}

// clip shortens what is quoted.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
