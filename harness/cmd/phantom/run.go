package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

func runCommand() *command {
	return &command{
		name: "run", usage: "[flags] [packages] [-- flags of go test]", run: runBenchmarks,
		summary: "run the benchmarks in a mode, with progress and a table",
		help: `Run drives go test over the benchmarks of packages (default ./...) in a mode,
tells how far it is, prints a table and keeps the text that benchstat and check
read. The modes are quick (minutes), standard (figures worth keeping), stress,
and long-running (an hour a case: choose some with --bench).

Examples:

  go tool phantom run
  go tool phantom run --mode standard --count 6 --out results.txt
  go tool phantom run --bench 'Propose/disk=sync' ./consensus
  go tool phantom run --list --mode standard
  go tool phantom run --named --mode standard --count 6
  PHANTOM_CLIENTS=8 go tool phantom run ./consensus -- -cpu=1,2

While the run goes on its text grows in a file that ends in .partial; it gets
its name when the last case is done. An interrupt leaves that file, and its last
line says that the run is incomplete.

Exit status: that of go test; 2 for bad arguments; 130 after an interrupt.
`,
	}
}

// A runSpec is what the user asked for.
type runSpec struct {
	mode, bench, benchtime, out, artifacts string
	count                                  int
	list, json, named                      bool
	packages, extra                        []string
}

func parseRun(c *console, self *command, args []string) (*runSpec, error) {
	s := &runSpec{}
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.StringVar(&s.mode, "mode", "", "`quick`, standard, stress or long-running; default: PHANTOM_MODE, else quick")
	fs.StringVar(&s.bench, "bench", ".", "run benchmarks that match this `regexp`")
	fs.BoolVar(&s.named, "named", false, "run the benchmarks that the module's baselines name, in place of --bench and packages")
	fs.StringVar(&s.benchtime, "benchtime", "", "`length` of every case, such as 1s or 100x; default: the mode's")
	fs.IntVar(&s.count, "count", 1, "`samples` of every case")
	fs.StringVar(&s.out, "out", "", "`file` for the text; default: one of its own in _artifacts/phantom")
	fs.StringVar(&s.artifacts, "artifacts", "", "keep histograms, series and profiles in this `folder`")
	fs.BoolVar(&s.list, "list", false, "name the cases and estimate their time, and run none")
	fs.BoolVar(&s.json, "json", false, "print one JSON value in place of the table")
	for i, a := range args {
		if a == "--" {
			args, s.extra = args[:i], args[i+1:]
			break
		}
	}
	var err error
	if s.packages, err = self.parse(c, fs, args); err != nil {
		return nil, err
	}
	switch {
	case s.named && (len(s.packages) > 0 || s.bench != "."):
		err = errors.New("--named chooses packages and benchmarks: expected no others")
	case s.named:
		err = s.chooseNamed()
	case len(s.packages) == 0:
		s.packages = []string{"./..."}
	}
	if mode := s.modeName(c); !slices.Contains(harness.Modes(), harness.Mode(mode)) {
		err = fmt.Errorf("mode %q: expected one of %v", mode, harness.Modes())
	}
	if s.count < 1 {
		err = fmt.Errorf("--count %d: expected 1 or more", s.count)
	}
	if s.out == "" {
		s.out = filepath.Join("_artifacts", "phantom", s.modeName(c)+time.Now().UTC().Format("-20060102T150405Z")+".txt")
	} else if _, failed := os.Stat(s.out); failed == nil {
		err = fmt.Errorf("--out %s: the file exists: expected the name of a new one", s.out)
	}
	if err != nil {
		complain(c, "run", err)
	}
	return s, err
}

// chooseNamed selects what the baselines of the module are about. Packages that
// do not exist yet are left out; check calls their benchmarks missing.
func (s *runSpec) chooseNamed() error {
	dir, err := findBaselines()
	if err != nil {
		return err
	}
	entries, err := baseline.Load(dir)
	if err != nil {
		return err
	}
	var packages []string
	s.bench, packages = baseline.Pattern(entries)
	root := filepath.Dir(filepath.Dir(dir))
	for _, pkg := range packages {
		folder := strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
		if !strings.HasPrefix(pkg, module) {
			s.packages = append(s.packages, pkg)
		} else if files, _ := filepath.Glob(filepath.Join(root, folder, "*.go")); len(files) > 0 {
			s.packages = append(s.packages, pkg)
		}
	}
	return nil
}

func (s *runSpec) modeName(c *console) string {
	if s.mode != "" {
		return s.mode
	}
	if m := c.getenv("PHANTOM_MODE"); m != "" {
		return m
	}
	return "quick"
}

// env is what the spec adds to the environment of go test.
func (s *runSpec) env() []string {
	if s.mode == "" {
		return nil
	}
	return []string{"PHANTOM_MODE=" + s.mode}
}

// goArgs are the arguments of go test. Packages run one after the other, which
// is what makes go test pass their output on at once.
func (s *runSpec) goArgs() []string {
	args := []string{"test", "-p=1", "-run=^$", "-bench=" + s.bench, "-count=" + fmt.Sprint(s.count)}
	if s.benchtime != "" {
		args = append(args, "-benchtime="+s.benchtime)
	}
	args = append(args, s.extra...)
	return append(args, s.packages...)
}

// measureArgs are goArgs for the run that measures.
func (s *runSpec) measureArgs() ([]string, error) {
	args := s.goArgs()
	if s.artifacts == "" {
		return args, nil
	}
	dir, err := filepath.Abs(s.artifacts)
	if err != nil {
		return nil, fmt.Errorf("--artifacts %s: %w", s.artifacts, err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("--artifacts: %w", err)
	}
	return append([]string{"test", "-artifacts", "-outputdir=" + dir}, args[1:]...), nil
}

func runBenchmarks(ctx context.Context, c *console, self *command, args []string) int {
	s, err := parseRun(c, self, args)
	if err != nil {
		return statusOf(err)
	}
	p := startProgress(c, "building and listing")
	cases, status, text, err := listCases(ctx, c.goTest, s.goArgs(), s.env())
	if err == nil && status == 0 && len(cases) == 0 {
		err = fmt.Errorf("--bench %q: no benchmark of %s matches: expected one at least", s.bench, strings.Join(s.packages, " "))
	}
	if err != nil || status != 0 || s.list {
		p.close()
	}
	switch {
	case err != nil:
		complain(c, "run", err)
		return statusBadInput
	case status == statusInterrupted && ctx.Err() != nil:
		fmt.Fprintln(c.err, "phantom run: interrupted before the first case")
		return status
	case status != 0:
		fmt.Fprint(c.err, text)
		return status
	case s.list:
		return listing(c, s, cases)
	}
	return s.measure(ctx, c, p, cases)
}

// measure runs the cases, keeps the text and prints the table.
func (s *runSpec) measure(ctx context.Context, c *console, p *progress, cases []benchCase) int {
	r := &recorder{p: p, ctx: ctx}
	args, err := s.measureArgs()
	if err == nil {
		err = r.open(s.out)
	}
	if err != nil {
		p.close()
		complain(c, "run", err)
		return statusBadInput
	}
	p.begin(cases, s.count)
	w := &lineWriter{line: r.line}
	status, err := c.goTest(ctx, args, s.env(), w)
	p.close()
	rows, all := p.counts()
	switch {
	case err != nil:
		r.incomplete("%v after %d of %d samples", err, rows, all)
		status = statusBadInput
	case ctx.Err() != nil:
		r.incomplete("interrupted after %d of %d samples", rows, all)
		status = statusInterrupted
	case len(w.rest) > 0:
		r.incomplete("the output ends in the middle of a line, %.80q, after %d of %d samples", w.rest, rows, all)
		status = max(status, statusMiss)
	}
	file, closeErr := r.close()
	if err := errors.Join(err, closeErr); err != nil {
		complain(c, "run", err)
		return statusBadInput
	}
	set := results.ReadFiles(file)
	if err := s.present(c, set, file, status); err != nil {
		complain(c, "run", err)
		return statusBadInput
	}
	for _, skip := range set.Skips {
		fmt.Fprintf(c.err, "skipped %s: %s\n", skip.Name, skip.Why)
	}
	if status == statusInterrupted {
		fmt.Fprintf(c.err, "interrupted after %d of %d samples; what there is: %s\n", rows, all, file)
	} else {
		fmt.Fprintf(c.err, "%d samples in %s\njudge them: go tool phantom check %s\n", rows, file, file)
	}
	return status
}

// present prints the table or its JSON form.
func (s *runSpec) present(c *console, set *results.Set, file string, status int) error {
	if !s.json {
		writeSummary(c, set)
		return nil
	}
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	doc := struct {
		Status int          `json:"status"`
		File   string       `json:"file"`
		Rows   []summaryRow `json:"rows"`
	}{status, file, summaryRows(set)}
	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("json: %w", err)
	}
	return nil
}

// listing prints the cases and what they would take.
func listing(c *console, s *runSpec, cases []benchCase) int {
	if s.json {
		type row struct {
			Package string `json:"package"`
			Name    string `json:"name"`
			Length  string `json:"length"`
		}
		rows := []row{}
		for _, b := range cases {
			rows = append(rows, row{b.pkg, b.name, b.length})
		}
		enc := json.NewEncoder(c.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(rows); err != nil {
			complain(c, "run", fmt.Errorf("json: %w", err))
			return statusBadInput
		}
		return statusOK
	}
	for _, b := range cases {
		fmt.Fprintf(c.out, "%s\t%s\t%s\n", b.pkg, b.name, b.length)
	}
	fmt.Fprintf(c.err, "%d cases in mode %s, %d of each: about %s\n", len(cases), s.modeName(c), s.count, clock(total(cases, s.count)))
	return statusOK
}
