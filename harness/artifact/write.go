package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// Names of the files of a sample, and of the two records that stand beside
// samples.
const (
	SampleFile      = "sample.json"
	SeriesFile      = "series.json"
	MetersFile      = "meters.json"
	LatencyFile     = "latency.hlog"
	MissingFile     = "missing.json"
	EnvironmentFile = "environment.json"
)

// Profiles are the files that a profile on request leaves.
var Profiles = []string{"cpu.pprof", "heap.pprof", "mutex.pprof", "block.pprof", "trace.out"}

// A record is a value that this package writes and reads.
type record interface{ check() error }

// WriteSample writes s into dir, setting its schema. Write it last: a directory
// with a sample is complete.
func WriteSample(dir string, s Sample) error {
	s.Schema = Schema
	return writeRecord(dir, SampleFile, &s)
}

// WriteSeries writes s into dir, setting its schema.
func WriteSeries(dir string, s Series) error {
	s.Schema = Schema
	return writeRecord(dir, SeriesFile, &s)
}

// WriteMeters writes m into dir, setting its schema.
func WriteMeters(dir string, m Meters) error {
	m.Schema = Schema
	return writeRecord(dir, MetersFile, &m)
}

// WriteMissing writes m into dir, setting its schema.
func WriteMissing(dir string, m Missing) error {
	m.Schema = Schema
	return writeRecord(dir, MissingFile, &m)
}

// WriteEnvironment writes e into dir, setting its schema.
func WriteEnvironment(dir string, e Environment) error {
	e.Schema = Schema
	return writeRecord(dir, EnvironmentFile, &e)
}

// WriteLatency writes the intervals into dir.
func WriteLatency(dir string, l measure.Log) error {
	return writeAside(dir, LatencyFile, func(w io.Writer) error { return l.Write(w) })
}

// writeRecord refuses what the reader would refuse, while the one to blame is
// still there.
func writeRecord(dir, name string, r record) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("artifact: %s: %w", name, err)
	}
	return writeAside(dir, name, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "\t")
		return e.Encode(r)
	})
}

// writeAside writes a file under a name that no reader looks at and renames it.
func writeAside(dir, name string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(dir, name+".*.tmp")
	if err != nil {
		return fmt.Errorf("artifact: %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("artifact: %s: %w", name, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}
