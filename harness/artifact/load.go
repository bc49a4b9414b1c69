package artifact

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// Bounds of what Load reads, in bytes and in files. The sizes are several times
// those of the largest run of this project.
const (
	maxRecordBytes = 4 << 20
	maxSeriesBytes = 32 << 20
	maxLogBytes    = 256 << 20
	maxRecords     = 1 << 18
	maxComplaints  = 20
)

// A Tree is what a directory of artifacts holds.
type Tree struct {
	// Folders are all samples by time, those that are not valid too: see
	// Sample.Invalid. Such a case stands in Missing as well.
	Folders      []*Folder
	Missing      []Missing
	Environments map[string]Environment // by id

	bound map[boundLine]bool
	lines map[string][]boundLine // by name as printed; nil before the first Bind
}

// A Folder is one sample and the files beside it.
type Folder struct {
	Dir    string
	Sample Sample
	// Files are the names of those known to this package that are there.
	Files []string
}

// Load reads every record below dir. Series, meters and latencies are read when
// they are asked for, since a tree may hold thousands. When a record cannot be
// read, Load returns no tree and an error that names the first twenty such
// files.
func Load(dir string) (*Tree, error) { return load(dir, maxRecords) }

func load(dir string, limit int) (*Tree, error) {
	t := &Tree{Environments: map[string]Environment{}, bound: map[boundLine]bool{}}
	var problems []error
	records := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// Links are not followed: WalkDir does not descend into them, and
		// readFile refuses what is not a plain file.
		if d.IsDir() || d.Name() != SampleFile && d.Name() != MissingFile && d.Name() != EnvironmentFile {
			return nil
		}
		if records++; records > limit {
			return fmt.Errorf("more than %d records: want a directory of artifacts", limit)
		}
		if err := t.add(path); err != nil {
			if problems = append(problems, err); len(problems) == maxComplaints {
				return fs.SkipAll
			}
		}
		return nil
	})
	if err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("artifact: %s: %w", dir, errors.Join(problems...))
	}
	slices.SortStableFunc(t.Folders, func(a, b *Folder) int {
		return cmp.Or(a.Sample.Start.Compare(b.Sample.Start), cmp.Compare(a.Sample.Order, b.Sample.Order))
	})
	return t, nil
}

// add reads one record into the tree.
func (t *Tree) add(path string) error {
	dir, name := filepath.Split(path)
	switch name {
	case SampleFile:
		f := &Folder{Dir: filepath.Clean(dir)}
		if err := readRecord(path, maxRecordBytes, &f.Sample); err != nil {
			return err
		}
		for _, name := range append([]string{SeriesFile, MetersFile, LatencyFile}, Profiles...) {
			if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
				f.Files = append(f.Files, name)
			}
		}
		t.Folders = append(t.Folders, f)
	case MissingFile:
		var m Missing
		if err := readRecord(path, maxRecordBytes, &m); err != nil {
			return err
		}
		t.Missing = append(t.Missing, m)
	case EnvironmentFile:
		var e Environment
		if err := readRecord(path, maxRecordBytes, &e); err != nil {
			return err
		}
		t.Environments[e.ID] = e
	}
	return nil
}

// Has reports whether the folder holds a file of the name.
func (f *Folder) Has(name string) bool { return slices.Contains(f.Files, name) }

// Series reads the run's intervals. ok is false when there are none.
func (f *Folder) Series() (s Series, ok bool, err error) {
	if !f.Has(SeriesFile) {
		return s, false, nil
	}
	err = readRecord(filepath.Join(f.Dir, SeriesFile), maxSeriesBytes, &s)
	return s, err == nil, err
}

// Meters reads the run's meters. ok is false when there are none.
func (f *Folder) Meters() (m Meters, ok bool, err error) {
	if !f.Has(MetersFile) {
		return m, false, nil
	}
	err = readRecord(filepath.Join(f.Dir, MetersFile), maxRecordBytes, &m)
	return m, err == nil, err
}

// Latency reads the latencies of the run's intervals. ok is false when there
// are none.
func (f *Folder) Latency() (l measure.Log, ok bool, err error) {
	if !f.Has(LatencyFile) {
		return l, false, nil
	}
	path := filepath.Join(f.Dir, LatencyFile)
	err = open(path, maxLogBytes, func(r io.Reader) (err error) {
		l, err = measure.ReadLog(r, maxInterval*8)
		return err
	})
	return l, err == nil, err
}

func readRecord(path string, limit int64, into record) error {
	return open(path, limit, func(r io.Reader) error {
		d := json.NewDecoder(r)
		if err := d.Decode(into); err != nil {
			return fmt.Errorf("want one JSON object of schema %d: %w", Schema, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return errors.New("want one JSON object, and more follows it")
		}
		return into.check()
	})
}

// open hands a plain file of at most limit bytes to read. Anything else could
// block for ever (a pipe) or lead elsewhere (a link).
func open(path string, limit int64, read func(io.Reader) error) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err // names the path
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %v: want a plain file", path, info.Mode().Type())
	}
	if info.Size() > limit {
		return fmt.Errorf("%s: %d bytes: want at most %d", path, info.Size(), limit)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// The file may grow while it is read.
	if err := read(io.LimitReader(f, limit)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
