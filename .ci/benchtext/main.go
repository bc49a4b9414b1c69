package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: benchtext FILE")
		os.Exit(2)
	}
	problems, err := run(os.Args[1], os.Stdout)
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

// run checks the file name and writes benchstat's tables to w.
func run(name string, w io.Writer) (problems []string, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	want, problems := read(name, text)
	tables, notes, err := benchstat("-format=csv", name)
	if err != nil {
		return nil, err
	}
	got, extra, err := readTables(tables)
	if err != nil {
		return nil, err
	}
	problems = append(problems, extra...)
	problems = append(problems, compare(want, got)...)
	problems = append(problems, checkNotes(notes)...)
	tables, _, err = benchstat(name)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(tables)
	return problems, err
}

// table names one of benchstat's tables, as there should be.
type table struct{ pkg, unit string }

// rows holds the benchmarks of each table.
type rows map[table]map[string]bool

func (r rows) add(t table, name string) {
	if r[t] == nil {
		r[t] = map[string]bool{}
	}
	r[t][name] = true
}

// read parses benchmark text and complains about lines that are lost.
func read(name string, text []byte) (want rows, problems []string) {
	want = rows{}
	results := map[int]bool{} // by line
	reader := benchfmt.NewReader(bytes.NewReader(text), name)
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			problems = append(problems, record.Error())
		case *benchfmt.Result:
			_, line := record.Pos()
			results[line] = true
			for _, v := range record.Values {
				want.add(table{record.GetConfig("pkg"), v.Unit}, string(record.Name))
			}
		}
	}
	if err := reader.Err(); err != nil {
		problems = append(problems, err.Error())
	}
	if len(results) == 0 {
		problems = append(problems, name+": no benchmark results")
	}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if !results[i+1] && looksLikeResult(line) {
			problems = append(problems, fmt.Sprintf("%s:%d: not read as a result: %s", name, i+1, line))
		}
	}
	return want, problems
}

// looksLikeResult finds what is left of a result when something else wrote to
// the output in the middle of its line.
func looksLikeResult(line []byte) bool {
	return bytes.HasPrefix(line, []byte("Benchmark")) || bytes.Contains(line, []byte(" ns/op"))
}

func benchstat(args ...string) (out, notes []byte, err error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("go", append([]string{"tool", "benchstat"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, nil, fmt.Errorf("benchstat: %w: %s", err, stderr.Bytes())
	}
	return stdout.Bytes(), stderr.Bytes(), nil
}

// readTables parses what benchstat -format=csv prints: blocks with an empty
// line between them, each of configuration lines (only those that changed), a
// line of file names, a line with the unit, and a line for each benchmark.
func readTables(text []byte) (got rows, problems []string, err error) {
	got = rows{}
	var pkg string
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		if block == "" {
			break // no results at all, which read complains about
		}
		lines := strings.Split(block, "\n")
		for len(lines) > 0 && !strings.HasPrefix(lines[0], ",") {
			if value, ok := strings.CutPrefix(lines[0], "pkg: "); ok {
				pkg = value
			}
			lines = lines[1:]
		}
		if len(lines) < 2 {
			return nil, nil, fmt.Errorf("benchstat printed a block without a table: %q", block)
		}
		reader := csv.NewReader(strings.NewReader(strings.Join(lines[1:], "\n")))
		reader.FieldsPerRecord = -1
		records, err := reader.ReadAll()
		if err != nil {
			return nil, nil, fmt.Errorf("benchstat's table: %w", err)
		}
		if len(records[0]) < 2 {
			return nil, nil, errors.New("benchstat printed a table without a unit")
		}
		t := table{pkg, records[0][1]}
		if got[t] != nil {
			problems = append(problems, fmt.Sprintf("benchstat prints more than one table of %s in %s: a configuration line changes within the run", t.unit, t.pkg))
		}
		for _, record := range records[1:] {
			if record[0] != "geomean" {
				got.add(t, record[0])
			}
		}
	}
	return got, problems, nil
}

// compare complains about results that did not reach their table.
func compare(want, got rows) (problems []string) {
	for t, names := range want {
		for name := range names {
			if !got[t][name] {
				problems = append(problems, fmt.Sprintf("benchstat lost %s of %s in %s", t.unit, name, t.pkg))
			}
		}
	}
	slices.Sort(problems)
	return problems
}

// allowed are the notes that a run of one sample earns. The last belongs to
// counters that may be zero, such as errors/op: their mean is left out.
var allowed = regexp.MustCompile(`^[A-Z]+[0-9]+: (need >= \d+ samples .*|all samples are equal|summaries must be >0 to compute geomean)$`)

func checkNotes(notes []byte) (problems []string) {
	for line := range strings.SplitSeq(strings.TrimSpace(string(notes)), "\n") {
		if line != "" && !allowed.MatchString(line) {
			problems = append(problems, "benchstat: "+line)
		}
	}
	return problems
}
