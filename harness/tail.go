package harness

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// tail holds what must not be printed before package testing has ended its own
// lines: it writes a benchmark's name, runs it and then writes the figures, and
// anything between loses the line. Main empties it.
var tail queue

// A queue is text for the end of a run.
type queue struct {
	mu      sync.Mutex
	lines   []string // benchmark lines, for standard output
	remarks []string // for standard error
}

// maxTail bounds the lines that wait: 32 kinds of 180 cases in 28 samples.
const maxTail = 100_000

func (q *queue) line(text string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) < maxTail {
		q.lines = append(q.lines, text)
	}
}

func (q *queue) remark(text string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.remarks) < maxTail {
		q.remarks = append(q.remarks, text)
	}
}

// take empties the queue.
func (q *queue) take() (lines, remarks []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, remarks = q.lines, q.remarks
	q.lines, q.remarks = nil, nil
	return lines, remarks
}

// print writes what waits.
func (q *queue) print(stdout, stderr io.Writer) {
	lines, remarks := q.take()
	for _, l := range lines {
		fmt.Fprintln(stdout, l)
	}
	for _, r := range remarks {
		fmt.Fprintln(stderr, r)
	}
}

// reportKinds queues a line for each kind of operation of a mix. They have the
// shape of package testing's, so that the tools take them for rows: the name of
// the benchmark with /kind=name behind it. Costs are not told apart by kind, and
// there is no ns/op: the run's time over the operations of one kind is no time
// that anything took, and the tools print that unit before all others.
func reportKinds(b *testing.B, m *meter, r Result) {
	procs := runtime.GOMAXPROCS(0)
	for _, k := range r.Kinds {
		if k.Ops == 0 {
			continue
		}
		name := b.Name() + "/" + Name("kind", k.Name)
		units := latencyUnits(k.Latency)
		units["ops/s"] = float64(int64(k.Ops)-k.Errors) / max(r.Elapsed.Seconds(), 1e-9)
		units["errors/op"] = float64(k.Errors) / float64(k.Ops)
		line := testing.BenchmarkResult{N: k.Ops, Extra: units}
		suffix := ""
		if procs != 1 {
			suffix = fmt.Sprintf("-%d", procs)
		}
		tail.line(fmt.Sprintf("%s%s\t%s", name, suffix, line))
		m.watcher.kind(artifact.Kind{Tag: k.Name, Name: name, Iterations: int64(k.Ops), Values: units})
	}
}

// kind adds a further line to the record of the sample.
func (w *watcher) kind(k artifact.Kind) {
	if w != nil {
		w.kinds = append(slices.Clip(w.kinds), k)
	}
}

// condemn makes the record one of a case that is missing.
func (w *watcher) condemn(why string) {
	if w != nil {
		w.invalid = why
	}
}
