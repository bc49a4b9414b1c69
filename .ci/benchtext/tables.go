package main

import (
	"encoding/csv"
	"fmt"
	"regexp"
	"strings"
)

// allowed are the notes that a run of few samples earns. The last belongs to
// counters that may be zero, such as errors/op: their mean is left out.
var allowed = regexp.MustCompile(`^[A-Z]+[0-9]+: (need >= \d+ samples .*|all samples are equal|summaries must be >0 to compute geomean|ratios must be >0 to compute geomean|benchmark set differs from baseline; geomeans may not be comparable)$`)

// A table is one of those that benchstat prints.
type table struct {
	pkg, unit string
	values    []value
}

// A value stands in a row and a column, which is named after what stands above
// it: a file, or the value of a key.
type value struct{ row, column string }

// readTables parses what benchstat -format=csv prints: blocks with an empty
// line between them, each of configuration lines (only those that changed), a
// line that names the columns, a line with their units, and a line for each
// benchmark. A column with a value has the table's unit above it; those of
// intervals and comparisons have other words.
func readTables(text []byte) (tables []table, err error) {
	var pkg string
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		if block == "" {
			break // no results at all
		}
		lines := strings.Split(block, "\n")
		for len(lines) > 0 && !strings.HasPrefix(lines[0], ",") {
			if value, ok := strings.CutPrefix(lines[0], "pkg: "); ok {
				pkg = value
			}
			lines = lines[1:]
		}
		if len(lines) < 2 {
			return nil, fmt.Errorf("benchstat printed a block without a table: %q", block)
		}
		reader := csv.NewReader(strings.NewReader(strings.Join(lines, "\n")))
		reader.FieldsPerRecord = -1
		records, err := reader.ReadAll()
		if err != nil {
			return nil, fmt.Errorf("benchstat's table: %w", err)
		}
		if len(records[1]) < 2 {
			return nil, errNoUnit
		}
		tables = append(tables, readTable(pkg, records))
	}
	return tables, nil
}

func readTable(pkg string, records [][]string) table {
	names, units := records[0], records[1]
	t := table{pkg: pkg, unit: units[1]}
	for _, record := range records[2:] {
		if record[0] == "geomean" {
			continue
		}
		column := ""
		for i := 1; i < len(record) && i < len(units); i++ {
			if units[i] != t.unit {
				continue
			}
			if i < len(names) {
				column = names[i]
			}
			if record[i] != "" {
				t.values = append(t.values, value{record[0], column})
			}
		}
	}
	return t
}
