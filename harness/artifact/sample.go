package artifact

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Schema is the version of the records. It rises when the meaning of a field
// changes; a new field alone does not raise it.
const Schema = 1

// A Sample is one line of a benchmark: what was measured, under what
// conditions, and whether it may be believed.
type Sample struct {
	Schema int `json:"schema"`

	// Package is the import path, as in the pkg line of the text. Name is the
	// full name of the benchmark without the suffix for GOMAXPROCS, which is
	// Procs: Line returns both as printed.
	Package string `json:"package"`
	Name    string `json:"name"`
	Procs   int    `json:"procs"`

	// Process is the id of the Environment the sample was taken in. Order
	// counts the samples of that process from 0, Index those of the same name,
	// so that -count=3 gives indexes 0, 1 and 2.
	Process string `json:"process"`
	Order   int    `json:"order"`
	Index   int    `json:"index"`

	// Iterations is b.N. Values are those of the line, by unit, before
	// printing rounded them.
	Iterations int64              `json:"iterations"`
	Values     map[string]float64 `json:"values"`
	// Kinds are the further lines that the same run printed, one for each kind
	// of operation in a mix.
	Kinds []Kind `json:"kinds,omitempty"`

	// Mode and Parameters are what the run was asked for, defaults included.
	Mode       string            `json:"mode,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Seed       uint64            `json:"seed"`
	// Commit is the revision of the source, absent where nobody could tell.
	// Modified says that the working tree differed from it.
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`

	// Start and Elapsed are of the measured part.
	Start   time.Time `json:"start"`
	Elapsed int64     `json:"elapsed_ns"`

	// Invalid says why the values must not be used; empty means they may.
	Invalid string `json:"invalid,omitempty"`
	// Findings are remarks that leave the values as they are, such as a leak.
	Findings []Finding `json:"findings,omitempty"`
}

// A Kind is a line for one kind of operation. In latency.hlog its intervals
// carry Tag.
type Kind struct {
	Tag        string             `json:"tag"`
	Name       string             `json:"name"` // like Sample.Name
	Iterations int64              `json:"iterations"`
	Values     map[string]float64 `json:"values"`
}

// A Finding is something noticed about a sample.
type Finding struct {
	// Reason is one word for tools: "leak", "drift", "disk", "profile".
	Reason string `json:"reason"`
	// Text is a sentence for people, with numbers.
	Text string `json:"text"`
}

// Missing is a case that was asked for and not measured. Whoever judges results
// must count it as missing rather than as passed.
type Missing struct {
	Schema  int       `json:"schema"`
	Package string    `json:"package"`
	Name    string    `json:"name"`
	Procs   int       `json:"procs"`
	Process string    `json:"process"`
	Why     string    `json:"why"`
	Time    time.Time `json:"time"`
}

// Line returns the name as the benchmark text prints it, with -N behind it
// where GOMAXPROCS is N and not 1.
func (s *Sample) Line() string { return line(s.Name, s.Procs) }

// Line returns the name as the text would have printed it.
func (m *Missing) Line() string { return line(m.Name, m.Procs) }

func line(name string, procs int) string {
	if procs == 1 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, procs)
}

// bounds of what a record may hold. No run of this project comes near them.
const (
	maxText     = 4 << 10 // of a name or a sentence, in bytes
	maxEntries  = 1 << 10 // values, parameters, kinds or findings
	maxColumns  = 256
	maxInterval = 1 << 14 // intervals of a series
)

func (s *Sample) check() error {
	if err := checkCase(s.Schema, s.Package, s.Name, s.Procs); err != nil {
		return err
	}
	if s.Iterations < 0 || s.Order < 0 || s.Index < 0 || s.Elapsed < 0 {
		return fmt.Errorf("iterations %d, order %d, index %d, elapsed %d ns: want none below 0",
			s.Iterations, s.Order, s.Index, s.Elapsed)
	}
	for _, n := range []int{len(s.Values), len(s.Kinds), len(s.Parameters), len(s.Findings)} {
		if n > maxEntries {
			return fmt.Errorf("a list of %d entries: want at most %d", n, maxEntries)
		}
	}
	for i := range s.Kinds {
		k := &s.Kinds[i]
		if err := checkName("kind", k.Name); err != nil {
			return err
		}
		if err := checkValues(k.Values); err != nil {
			return fmt.Errorf("kind %s: %w", k.Name, err)
		}
	}
	return checkValues(s.Values)
}

func (m *Missing) check() error {
	if err := checkCase(m.Schema, m.Package, m.Name, m.Procs); err != nil {
		return err
	}
	if m.Why == "" || len(m.Why) > maxText {
		return fmt.Errorf("a reason of %d bytes: want 1 to %d", len(m.Why), maxText)
	}
	return nil
}

func checkCase(schema int, pkg, name string, procs int) error {
	if err := checkSchema(schema); err != nil {
		return err
	}
	if len(pkg) > maxText || strings.ContainsAny(pkg, " \t\r\n") {
		return fmt.Errorf("package %.80q: want an import path", pkg)
	}
	if procs < 1 || procs > 1<<20 {
		return fmt.Errorf("procs %d: want GOMAXPROCS, 1 or more", procs)
	}
	return checkName("name", name)
}

func checkSchema(schema int) error {
	if schema != Schema {
		return fmt.Errorf("schema %d: want %d", schema, Schema)
	}
	return nil
}

func checkName(what, name string) error {
	if len(name) > maxText || !strings.HasPrefix(name, "Benchmark") || strings.ContainsAny(name, " \t\r\n") {
		return fmt.Errorf("%s %.80q: want the name of a benchmark without spaces", what, name)
	}
	return nil
}

// checkValues refuses units that the text could not carry, and values that are
// not numbers.
func checkValues(values map[string]float64) error {
	for unit, v := range values {
		if unit == "" || len(unit) > 100 || strings.ContainsAny(unit, " \t\r\n") {
			return fmt.Errorf("unit %.80q: want a word", unit)
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s of %v: want a finite number", unit, v)
		}
	}
	return nil
}
