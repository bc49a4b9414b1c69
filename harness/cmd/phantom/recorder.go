package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/phantomdb/phantomdb/harness/results"
)

// partial ends the name of a file whose run has not ended, or was interrupted.
const partial = ".partial"

// A recorder keeps the text of a run, line by line.
type recorder struct {
	p    *progress
	ctx  context.Context // once it has ended nothing is kept: the line in work was cut
	name string
	f    *os.File
	err  error // the first failed write
	pkg  string
	cut  bool // the run is incomplete
}

// open creates the file, and its folder, under a name that tells that the run
// has not ended.
func (r *recorder) open(name string) error {
	r.name = name
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	f, err := os.Create(name + partial)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	r.f = f
	return nil
}

// line keeps a line and tells the progress of it.
func (r *recorder) line(text string) {
	if r.ctx.Err() != nil {
		return
	}
	r.write(text)
	fields := strings.Fields(text)
	switch {
	case len(fields) == 2 && fields[0] == "pkg:":
		r.pkg = fields[1]
	case len(fields) >= 4 && strings.HasPrefix(text, "Benchmark"):
		r.p.row(r.pkg, fields[0])
	case strings.HasPrefix(text, "--- FAIL") || strings.HasPrefix(text, "FAIL\t"), strings.HasPrefix(text, "# skipped "):
		r.p.remark(text)
	}
}

func (r *recorder) write(text string) {
	if r.err == nil {
		_, r.err = r.f.WriteString(text + "\n")
	}
}

// incomplete marks the text: the tools pass over the line, and check reads it.
func (r *recorder) incomplete(format string, args ...any) {
	r.cut = true
	r.write(results.IncompleteMark + fmt.Sprintf(format, args...))
}

// close gives the file of a complete run its name, and returns the name that
// the file has.
func (r *recorder) close() (name string, err error) {
	err = errors.Join(r.err, r.f.Close())
	if err != nil {
		return r.name + partial, fmt.Errorf("--out: %w", err)
	}
	if r.cut {
		return r.name + partial, nil
	}
	if err := os.Rename(r.name+partial, r.name); err != nil {
		return r.name + partial, fmt.Errorf("--out: %w", err)
	}
	return r.name, nil
}
