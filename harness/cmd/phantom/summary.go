package main

import (
	"fmt"

	"github.com/phantomdb/phantomdb/harness/results"
)

// A summaryRow is one benchmark of a finished run: the median of its samples in
// every unit.
type summaryRow struct {
	Package    string             `json:"package"`
	Benchmark  string             `json:"benchmark"`
	Processors int                `json:"processors"`
	Samples    int                `json:"samples"`
	Values     map[string]float64 `json:"values"`
}

func summaryRows(set *results.Set) []summaryRow {
	list := []summaryRow{}
	for _, row := range set.Rows() {
		s := summaryRow{row.Package, row.Name, row.Procs, len(row.Samples), map[string]float64{}}
		for _, sample := range row.Samples {
			for _, v := range sample.Values {
				if _, done := s.Values[v.Unit]; !done {
					s.Values[v.Unit] = results.Summarize(row.Values(v.Unit)).Median
				}
			}
		}
		list = append(list, s)
	}
	return list
}

// columns are the units of the table, for all lines that have them.
var columns = []string{"ops/s", "avg-ns", "p99-ns", "max-ns", "cpu-ns/op", "allocs/op"}

// writeSummary prints the table of a run. A benchmark without a distribution
// has its time per operation where the others have their mean.
func writeSummary(c *console, set *results.Set) {
	t := table{head: []string{"benchmark", "ops/s", "mean", "p99", "max", "CPU/op", "allocs/op", "errors"},
		right: []bool{false, true, true, true, true, true, true, true}}
	pkg := ""
	for _, row := range summaryRows(set) {
		if row.Package != pkg {
			pkg = row.Package
			t.add(cell{shortPackage(pkg), dim}, cell{}, cell{}, cell{}, cell{}, cell{}, cell{}, cell{})
		}
		cells := []cell{{"  " + row.Benchmark, plain}}
		for _, unit := range columns {
			v, ok := row.Values[unit]
			if !ok && unit == "avg-ns" {
				v, ok = row.Values["ns/op"]
			}
			text := "-"
			if ok {
				text = human(v, unit)
			}
			cells = append(cells, cell{text, plain})
		}
		errs := cell{"-", plain}
		if v, ok := row.Values["errors/op"]; ok && v > 0 {
			errs = cell{fmt.Sprintf("%.2g %%", 100*v), red}
		} else if ok {
			errs = cell{"0", plain}
		}
		t.add(append(cells, errs)...)
	}
	if len(t.rows) > 0 {
		t.write(c, c.out)
	}
}
