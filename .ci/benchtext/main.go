package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/perf/benchunit"

	"github.com/phantomdb/phantomdb/harness/results"
)

func main() {
	quick := flag.Bool("quick", false, "check the budget of the quick mode against the first file")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: benchtext [-quick] FILE...") }
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	problems, err := run(flag.Args(), os.Stdout)
	if err == nil && *quick {
		var more []string
		more, err = checkBudget(flag.Arg(0), os.Stderr)
		problems = append(problems, more...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchtext:", err)
		os.Exit(2)
	}
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, problem)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

// run checks files and writes benchstat's tables to w.
func run(files []string, w io.Writer) (problems []string, err error) {
	set := results.ReadFiles(files...)
	for _, p := range set.Problems {
		problems = append(problems, p.String())
	}
	if len(set.Samples) == 0 {
		return problems, nil
	}
	for _, check := range []func([]string, *results.Set) ([]string, error){checkTables, checkPivot, checkFilter} {
		more, err := check(files, set)
		if err != nil {
			return nil, err
		}
		problems = append(problems, more...)
	}
	tables, _, err := benchstat(files...)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(tables)
	return problems, err
}

// A cell is one value of a table: a benchmark of a package in a file, in a
// unit as the tools print it.
type cell struct{ pkg, unit, name, file string }

// cells are those that the tools should print.
func cells(set *results.Set) map[cell]bool {
	want := map[cell]bool{}
	for _, s := range set.Samples {
		for _, v := range s.Values {
			want[cell{s.Package, tidy(v), fullName(s), s.File}] = true
		}
	}
	return want
}

// tidy is the unit under which the tools print a value: a time that is zero
// stays in nanoseconds there, since only values that change are scaled.
func tidy(v results.Value) string {
	if scaled, unit := benchunit.Tidy(v.Value, v.Unit); scaled != v.Value {
		return unit
	}
	return v.Unit
}

func fullName(s *results.Sample) string {
	if s.Procs == 1 {
		return s.Name
	}
	return fmt.Sprintf("%s-%d", s.Name, s.Procs)
}

// checkTables compares benchstat's tables with what the files hold.
func checkTables(files []string, set *results.Set) ([]string, error) {
	text, notes, err := benchstat(append([]string{"-format=csv"}, files...)...)
	if err != nil {
		return nil, err
	}
	tables, err := readTables(text)
	if err != nil {
		return nil, err
	}
	problems := checkNotes(notes)
	seen, got := map[[2]string]bool{}, map[cell]bool{}
	for _, t := range tables {
		if id := [2]string{t.pkg, t.unit}; seen[id] {
			problems = append(problems, fmt.Sprintf("benchstat prints more than one table of %s in %s: a configuration line differs", t.unit, t.pkg))
		} else {
			seen[id] = true
		}
		for _, v := range t.values {
			got[cell{t.pkg, t.unit, v.row, v.column}] = true
		}
	}
	for c := range cells(set) {
		if !got[c] {
			problems = append(problems, fmt.Sprintf("benchstat lost %s of %s in %s of %s", c.unit, c.name, c.pkg, c.file))
		}
	}
	slices.Sort(problems)
	return problems, nil
}

// checkPivot has benchstat make columns of the numbers of clients, in the first
// file, and counts the throughputs.
func checkPivot(files []string, set *results.Set) ([]string, error) {
	const unit = "ops/s"
	text, notes, err := benchstat("-format=csv", "-col=/clients", "-filter=.unit:"+unit, files[0])
	if err != nil {
		return nil, err
	}
	tables, err := readTables(text)
	if err != nil {
		return nil, err
	}
	got, columns := 0, map[string]bool{}
	for _, t := range tables {
		got += len(t.values)
		for _, v := range t.values {
			columns[v.column] = true
		}
	}
	want, clients := 0, map[string]bool{}
	for c := range cells(set) {
		if c.unit == unit && c.file == files[0] {
			want++
		}
	}
	for _, s := range set.Samples {
		if _, ok := s.Get(unit); ok && s.File == files[0] {
			n, _ := s.Key("clients")
			clients[n] = true
		}
	}
	problems := checkNotes(notes)
	if got != want || len(columns) != len(clients) {
		problems = append(problems, fmt.Sprintf("benchstat -col=/clients prints %d values in %d columns: expected %d in %d", got, len(columns), want, len(clients)))
	}
	return problems, nil
}

// checkFilter has benchfilter pass all results of each file.
func checkFilter(files []string, set *results.Set) (problems []string, err error) {
	for _, file := range files {
		text, _, err := tool("benchfilter", "run", "golang.org/x/perf/cmd/benchfilter", "*", file)
		if err != nil {
			return nil, err
		}
		passed := results.Read("benchfilter", bytes.NewReader(text))
		for _, p := range passed.Problems {
			// It passes results on, and nothing of what stands behind them.
			if p.Kind != results.Interrupted {
				problems = append(problems, p.String())
			}
		}
		want := 0
		for _, s := range set.Samples {
			if s.File == file {
				want++
			}
		}
		if len(passed.Samples) != want {
			problems = append(problems, fmt.Sprintf("benchfilter passes %d results of %s: expected %d", len(passed.Samples), file, want))
		}
	}
	return problems, nil
}

func benchstat(args ...string) (out, notes []byte, err error) {
	return tool("benchstat", append([]string{"tool", "benchstat"}, args...)...)
}

func tool(name string, args ...string) (out, notes []byte, err error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w: %s", name, err, stderr.Bytes())
	}
	return stdout.Bytes(), stderr.Bytes(), nil
}

// checkNotes keeps those that a run of few samples does not earn.
func checkNotes(notes []byte) (problems []string) {
	for line := range strings.SplitSeq(strings.TrimSpace(string(notes)), "\n") {
		if line != "" && !allowed.MatchString(line) {
			problems = append(problems, "benchstat: "+line)
		}
	}
	return problems
}

var errNoUnit = errors.New("benchstat printed a table without a unit")
