package report

import (
	"time"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/baseline"
)

// Schema is the version of the JSON form. It rises when the meaning of a field
// changes; a new field alone does not raise it.
const Schema = 1

// A Model is everything a report says.
type Model struct {
	Schema  int       `json:"schema"`
	Made    time.Time `json:"made"`
	Sources []string  `json:"sources"` // files of benchmark text
	Modes   []string  `json:"modes"`
	Verdict Verdict   `json:"verdict"`
	// Notices are what a reader must know before any number.
	Notices   []Notice      `json:"notices,omitempty"`
	Baselines []Expectation `json:"baselines,omitempty"`
	Floors    []Floor       `json:"floors"`
	Machines  []Machine     `json:"machines"`
	// Commits are the revisions that the artifacts name.
	Commits []string `json:"commits,omitempty"`
	Samples int      `json:"samples"`
	Cases   int      `json:"cases"`
	// Noise says in words how far the samples of a case lie apart.
	Noise string `json:"noise"`
	// Evidence says in words which cases have charts.
	Evidence string `json:"evidence"`
}

// States of a verdict, from the best to the worst.
const (
	StateKept   = "kept"   // everything that applies is kept
	StateNone   = "none"   // nothing applies, so nothing is claimed
	StateOpen   = "open"   // something is missing or within noise
	StateMissed = "missed" // an expectation is missed
)

// A Verdict is what the report says in one sentence.
type Verdict struct {
	State    string  `json:"state"`
	Sentence string  `json:"sentence"`
	Detail   string  `json:"detail,omitempty"`
	Counts   []Tally `json:"counts,omitempty"`
}

// A Tally is how many baselines got a verdict.
type Tally struct {
	Verdict baseline.Verdict `json:"verdict"`
	Count   int              `json:"count"`
}

// A Notice is something that went wrong, as a sentence.
type Notice struct {
	// Kind is one word: mixed, failed, incomplete, skipped, invalid, or the
	// reason of a finding such as leak.
	Kind  string `json:"kind"`
	Text  string `json:"text"`
	Where string `json:"where,omitempty"` // file and line, or a directory
}

// An Expectation is a baseline and what the results say of it.
type Expectation struct {
	baseline.Statement
	Case string `json:"case,omitempty"` // ID of the case that was judged
}

// A Quantity is what the samples of a case say in one unit.
type Quantity struct {
	Unit   string  `json:"unit"`
	N      int     `json:"n"`
	Median float64 `json:"median"`
	// Low and High bound the median at 95 % where there are samples enough.
	Low  *float64 `json:"low,omitempty"`
	High *float64 `json:"high,omitempty"`
}

// A Floor is one subsystem.
type Floor struct {
	Name       string      `json:"name"`
	Title      string      `json:"title"`
	Benchmarks []Benchmark `json:"benchmarks"`
}

// A Benchmark is the cases of one benchmark function.
type Benchmark struct {
	Package string `json:"package"`
	Name    string `json:"name"`
	// Common are the parts of the name that all its cases share.
	Common string `json:"common,omitempty"`
	Cases  []Case `json:"cases"`
}

// A Case is one benchmark line with all its samples.
type Case struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`  // without "Benchmark" and processors
	Label      string     `json:"label"` // what tells it from its neighbours
	Processors int        `json:"processors"`
	Mode       string     `json:"mode"`
	Machine    int        `json:"machine"`    // index in Model.Machines
	Samples    int        `json:"samples"`    // valid ones
	Operations int        `json:"operations"` // measured, over all samples
	Quantities []Quantity `json:"quantities"`
	Lines      []string   `json:"lines"` // file:line of the samples, the first few
	Command    string     `json:"command"`
	Invalid    string     `json:"invalid,omitempty"` // how many samples are not among the values
	Evidence   *Evidence  `json:"evidence,omitempty"`
}

// Get returns the quantity in a unit.
func (c *Case) Get(unit string) (Quantity, bool) {
	for _, q := range c.Quantities {
		if q.Unit == unit {
			return q, true
		}
	}
	return Quantity{}, false
}

// Evidence is what artifacts tell about a case beside its line.
type Evidence struct {
	// Sample says which one the series and the heat map are of.
	Sample    string    `json:"sample"`
	Start     time.Time `json:"start"`
	Seed      uint64    `json:"seed"`
	Commit    string    `json:"commit,omitempty"`
	Curve     *Curve    `json:"curve,omitempty"`
	Series    []Panel   `json:"series,omitempty"`
	Heat      *Heat     `json:"heat,omitempty"`
	Resources []Meter   `json:"resources,omitempty"`
	Profiles  []string  `json:"profiles,omitempty"`
}

// A Curve is latency by percentile, over all samples of a case.
type Curve struct {
	Count int64 `json:"count"` // latencies behind it
	// Nines is -log10(1-q) of each point: 1 is 90 %, 2 is 99 %. The curve ends
	// where fewer than ten values lie beyond.
	Nines []float64 `json:"nines"`
	Nanos []float64 `json:"ns"`
}

// A Panel is a chart over time.
type Panel struct {
	Title string          `json:"title"`
	Unit  string          `json:"unit"`
	Log   bool            `json:"log,omitempty"`
	Ends  artifact.Floats `json:"ends_s"`
	Lines []Line          `json:"lines"`
}

// A Line is one quantity of a panel.
type Line struct {
	Name   string          `json:"name"`
	Values artifact.Floats `json:"values"`
}

// Heat is how many operations of each interval took how long.
type Heat struct {
	Ends artifact.Floats `json:"ends_s"`
	// Edges are latencies in nanoseconds; row i holds those from Edges[i] up to
	// Edges[i+1].
	Edges []float64 `json:"edges_ns"`
	// Counts is by interval, then by row.
	Counts [][]int64 `json:"counts"`
}

// A Meter is what the measured part used of one resource.
type Meter struct {
	Name  string   `json:"name"`
	Unit  string   `json:"unit"`
	Total *float64 `json:"total,omitempty"`
	PerOp *float64 `json:"per_op,omitempty"`
	Peak  *float64 `json:"peak,omitempty"`
	From  string   `json:"source"`
}

// A Machine is where samples were measured.
type Machine struct {
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	CPU        string `json:"cpu"`
	FileSystem string `json:"file_system"`
	Samples    int    `json:"samples"`
	Facts      []Fact `json:"facts,omitempty"` // from artifacts
}

// A Fact is something about a machine, as text.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
