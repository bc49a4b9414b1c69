package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

func checkCommand() *command {
	return &command{
		name: "check", usage: "RESULTS... [flags]", run: check,
		summary: "judge results against service levels, counter bands and scaling",
		help: `Check reads benchmark text and holds it against written expectations:
service levels (of the standard mode; not applicable to quick runs), bands of
counters, and scaling. Several samples of a benchmark give an interval; a limit
inside it is "within noise", and more samples will tell. The number of
processors in a name does not matter.

Examples:

  PHANTOM_MODE=standard go test -run='^$' -bench=. -count=6 ./... > results.txt
  go tool phantom check results.txt
  go tool phantom check results.txt --match '^consensus-' --json
  go tool phantom check monday.txt tuesday.txt --baselines my.baseline

Your own expectations have the format of testdata/baselines; go doc
./harness/baseline explains it.

Exit status: 0 if all that applies is kept; 1 if one is missed; 2 if the input
cannot be relied on; 3 if none is missed and one is missing or within noise, or
none applies.
`,
	}
}

func check(_ context.Context, c *console, self *command, args []string) int {
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	where := fs.String("baselines", "", "`file or folder` of baselines; default: testdata/baselines of the module")
	match := fs.String("match", "", "judge only baselines whose name matches this `regexp`")
	artifacts := fs.String("artifacts", "", "`folder` of go test -artifacts, for the reasons of cases that are missing")
	pending := fs.String("pending", "", "baselines whose name matches this `regexp` may be missing, and the others may not: they are missed then")
	asJSON := fs.Bool("json", false, "print one JSON value")
	files, err := self.parse(c, fs, args)
	if err != nil {
		return statusOf(err)
	}
	if len(files) == 0 {
		fmt.Fprintln(c.err, "phantom check: no files: expected benchmark text such as results.txt; phantom check -h explains")
		return statusBadInput
	}
	if twice := repeated(files); twice != "" {
		fmt.Fprintf(c.err, "phantom check: %s for the second time: expected each file once, or its samples count double\n", twice)
		return statusBadInput
	}
	excused, err := regexp.Compile(*pending)
	if err != nil {
		complain(c, "check", fmt.Errorf("--pending %q: %w: expected a regular expression", *pending, err))
		return statusBadInput
	}
	entries, err := selectEntries(*where, *match)
	if err != nil {
		complain(c, "check", err)
		return statusBadInput
	}
	set := results.ReadFiles(files...)
	bad := false
	for _, p := range set.Problems {
		fmt.Fprintf(c.err, "phantom check: %v\n", p)
		bad = bad || p.Kind.Bad()
	}
	if bad {
		return statusBadInput
	}
	if err := addMissing(set, *artifacts); err != nil {
		complain(c, "check", err)
		return statusBadInput
	}
	findings := baseline.Judge(entries, set)
	status := baseline.Status(findings)
	if absent(c, findings, excused) {
		status = statusMiss
	}
	if status == statusOK && len(set.Problems) > 0 {
		status = statusMissing // what failed or was interrupted is not all there
	}
	if *asJSON {
		err = writeFindingsJSON(c.out, findings, set.Problems, status)
	} else {
		writeFindings(c, findings)
	}
	if err != nil {
		complain(c, "check", err)
		return statusBadInput
	}
	return status
}

// repeated returns the first name that stands twice in a list; "" if none does.
func repeated(files []string) string {
	seen := map[string]bool{}
	for _, f := range files {
		if f = filepath.Clean(f); seen[f] {
			return f
		}
		seen[f] = true
	}
	return ""
}

// absent tells of baselines of which nothing was measured, though nothing excuses
// them, and reports whether there are any. The empty expression excuses all.
func absent(c *console, findings []baseline.Finding, excused *regexp.Regexp) (found bool) {
	for _, f := range findings {
		if f.Verdict == baseline.Missing && f.Summary.N == 0 && !excused.MatchString(f.Entry.Name) {
			fmt.Fprintf(c.err, "phantom check: %s is missing: expected results of %s\n", f.Entry.Name, f.Entry.Bench)
			found = true
		}
	}
	return found
}

// complain prints an error, and one of several lines with the command's name
// before each.
func complain(c *console, command string, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(c.err, "phantom %s: %s\n", command, line)
	}
}

// addMissing adds the records of cases that were not measured, but for those
// that the text remarks on itself.
func addMissing(set *results.Set, dir string) error {
	if dir == "" {
		return nil
	}
	tree, err := artifact.Load(dir)
	if err != nil {
		return fmt.Errorf("--artifacts: %w", err)
	}
	set.AddMissing(tree.Missing, dir)
	return nil
}

// selectEntries loads baselines and keeps those whose name matches.
func selectEntries(where, match string) ([]*baseline.Entry, error) {
	re, err := regexp.Compile(match)
	if err != nil {
		return nil, fmt.Errorf("--match %q: %w: expected a regular expression", match, err)
	}
	if where == "" {
		if where, err = findBaselines(); err != nil {
			return nil, err
		}
	}
	all, err := baseline.Load(where)
	if err != nil {
		return nil, err
	}
	var entries []*baseline.Entry
	for _, e := range all {
		if re.MatchString(e.Name) {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("--match %q: none of the %d baselines in %s: expected one at least", match, len(all), where)
	}
	return entries, nil
}

// findBaselines looks for testdata/baselines in the module around the working
// directory.
func findBaselines() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("--baselines: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "baselines"), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("--baselines: not inside a module: expected a file or folder of baselines")
		}
		dir = parent
	}
}

var verdictPaint = map[baseline.Verdict]paint{
	baseline.Pass: green, baseline.Miss: red, baseline.Missing: yellow, baseline.Noise: yellow, baseline.NotApplicable: dim,
}

// writeFindings prints the table, what needs a sentence, and the count.
func writeFindings(c *console, findings []baseline.Finding) {
	t := table{head: []string{"verdict", "baseline", "measured", "expected", "margin", "n", "benchmark"}, right: []bool{false, false, true, true, true, true, false}}
	var order []baseline.Verdict
	count := map[baseline.Verdict]int{}
	for _, f := range findings {
		if count[f.Verdict] == 0 {
			order = append(order, f.Verdict)
		}
		count[f.Verdict]++
		t.add(cell{string(f.Verdict), verdictPaint[f.Verdict]}, cell{f.Entry.Name, plain}, cell{measured(f), plain},
			cell{f.Entry.Expected(), plain}, cell{margin(f), plain}, cell{samples(f), plain}, cell{f.Row, dim})
	}
	t.write(c, c.out)
	fmt.Fprintln(c.out)
	for _, f := range findings {
		if f.Note != "" && f.Verdict != baseline.NotApplicable {
			fmt.Fprintf(c.out, "%s: %s\n", f.Entry.Name, f.Note)
		}
	}
	if n := few(findings); n > 0 {
		fmt.Fprintf(c.out, "%d verdicts on fewer than %d samples: without an interval, so by the median alone\n", n, results.MinSamples)
	}
	var parts []string
	for _, v := range order {
		parts = append(parts, c.paint(verdictPaint[v], fmt.Sprintf("%d %s", count[v], v)))
	}
	fmt.Fprintln(c.out, strings.Join(parts, ", "))
}

// measured prints the median and, in brackets, its interval.
func measured(f baseline.Finding) string {
	s, unit := f.Summary, f.Entry.Unit
	if f.Entry.Kind == baseline.Scaling {
		unit = "" // a ratio
	}
	switch {
	case s.N == 0:
		return "-"
	case !s.Bounded() || s.Low == s.High:
		return human(s.Median, unit)
	}
	return fmt.Sprintf("%s [%s, %s]", human(s.Median, unit), human(s.Low, unit), human(s.High, unit))
}

// few counts the verdicts that rest on too few samples for an interval. What is
// exact needs none.
func few(findings []baseline.Finding) (n int) {
	for _, f := range findings {
		exact := f.Entry.Kind == baseline.Band && f.Entry.Allow == 0
		if f.Summary.N > 0 && f.Summary.N < results.MinSamples && !exact {
			n++
		}
	}
	return n
}

func samples(f baseline.Finding) string {
	if f.Summary.N == 0 {
		return "-"
	}
	return strconv.Itoa(f.Summary.N)
}

func margin(f baseline.Finding) string {
	if f.Summary.N == 0 {
		return "-"
	}
	return fmt.Sprintf("%+.0f %%", 100*f.Margin)
}

func writeFindingsJSON(w io.Writer, findings []baseline.Finding, problems []results.Problem, status int) error {
	doc := struct {
		Status   int                  `json:"status"`
		Problems []string             `json:"problems,omitempty"`
		Findings []baseline.Statement `json:"findings"`
	}{Status: status}
	for _, p := range problems {
		doc.Problems = append(doc.Problems, p.String())
	}
	for _, f := range findings {
		doc.Findings = append(doc.Findings, f.Statement())
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("json: %w", err)
	}
	return nil
}
