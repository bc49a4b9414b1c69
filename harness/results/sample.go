package results

import (
	"strings"
)

// A Sample is one benchmark line.
type Sample struct {
	// Package is the import path that the text names above the line.
	Package string
	// Name is the benchmark's name without "Benchmark" and without the number
	// of processors: Propose/disk=sync/clients=64.
	Name string
	// Base is the part before the first slash, Keys the parts behind it that
	// are of the form key=value, in their order.
	Base string
	Keys []Key
	// Procs is GOMAXPROCS, which a name carries as -N unless it is 1.
	Procs int
	// Iterations is the number of operations that were measured.
	Iterations int
	// Values are the measurements in the order of the line.
	Values []Value
	// Invalid tells that the harness condemned the sample: what it measured is
	// not what was asked for. It is a sample that is missing, and none of its
	// other values may be compared.
	Invalid bool
	// Machine is what the text says of where the line was measured.
	Machine Machine
	// Mode is the harness's mode; "" if the text does not tell.
	Mode string
	// Given are the parameters that somebody set for the run, in the order of
	// the harness's remark above the line; defaults are not among them.
	Given []Key
	// File and Line tell where the line stands.
	File string
	Line int
}

// A Key is a part of a name.
type Key struct{ Name, Value string }

// A Value is one measurement.
type Value struct {
	Unit  string // as printed
	Value float64
}

// A Machine tells what results must have in common to be compared.
type Machine struct {
	OS, Arch, CPU string // as package testing prints them
	FileSystem    string // of the data, as the harness prints it
}

// String names the machine in a sentence.
func (m Machine) String() string {
	return m.OS + "/" + m.Arch + ", " + m.CPU + ", data on " + m.FileSystem
}

// Get returns the measurement in a unit.
func (s *Sample) Get(unit string) (float64, bool) {
	for _, v := range s.Values {
		if v.Unit == unit {
			return v.Value, true
		}
	}
	return 0, false
}

// Key returns the value of a key of the name.
func (s *Sample) Key(name string) (string, bool) {
	for _, k := range s.Keys {
		if k.Name == name {
			return k.Value, true
		}
	}
	return "", false
}

// splitName takes a name apart. The number of processors stands at its end,
// behind a dash; a name that ends in a dash and digits of its own is ambiguous
// in the format too, so package harness refuses to measure under one.
func splitName(full string) (name, base string, keys []Key, procs int) {
	name, procs = full, 1
	if i := strings.LastIndexByte(full, '-'); i > 0 {
		if n, ok := digits(full[i+1:]); ok {
			name, procs = full[:i], n
		}
	}
	parts := strings.Split(name, "/")
	for _, part := range parts[1:] {
		if k, v, ok := strings.Cut(part, "="); ok && k != "" {
			keys = append(keys, Key{k, v})
		}
	}
	return name, parts[0], keys, procs
}

// digits reads a number of processors: at most four digits, none of it signs.
func digits(s string) (n int, ok bool) {
	if s == "" || len(s) > 4 {
		return 0, false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, n > 0
}

// A Row is the samples of one benchmark on one number of processors in one
// mode.
type Row struct {
	Package, Name, Mode string
	Procs               int
	Samples             []*Sample
}

// Values returns the row's measurements in a unit. Samples without the unit and
// invalid ones are left out.
func (r *Row) Values(unit string) []float64 {
	var list []float64
	for _, s := range r.Samples {
		if v, ok := s.Get(unit); ok && !s.Invalid {
			list = append(list, v)
		}
	}
	return list
}

// Invalid returns how many of the row's samples are.
func (r *Row) Invalid() (n int) {
	for _, s := range r.Samples {
		if s.Invalid {
			n++
		}
	}
	return n
}

// Rows gathers the samples of each benchmark, in the order in which the
// benchmarks first appear.
func (s *Set) Rows() []*Row {
	type id struct {
		pkg, name, mode string
		procs           int
	}
	var rows []*Row
	index := map[id]*Row{}
	for _, sample := range s.Samples {
		i := id{sample.Package, sample.Name, sample.Mode, sample.Procs}
		row := index[i]
		if row == nil {
			row = &Row{Package: i.pkg, Name: i.name, Mode: i.mode, Procs: i.procs}
			index[i] = row
			rows = append(rows, row)
		}
		row.Samples = append(row.Samples, sample)
	}
	return rows
}
