package measure

import (
	"errors"
	"math"
	"slices"
	"time"
)

// A Kind tells how readings of a meter are to be compared.
type Kind string

const (
	// Gauge is a level: two readings have a mean and a maximum.
	Gauge Kind = "gauge"
	// Counter is a total that only grows: two readings have a difference.
	Counter Kind = "counter"
)

// A Meter is one quantity that a platform can be asked for.
type Meter struct {
	Name string // as in meters.json: lower-case words joined by dashes
	// Unit is ns, B or Hz, and 1 for what is counted.
	Unit   string
	Kind   Kind
	Source string // where the reading comes from, for whoever doubts it
}

// Meters reads what the platform and the Go runtime tell about this process and
// its machine. A meter that the platform lacks is not in the list.
//
// Reading costs some 15 us on Linux, most of it in the kernel, and allocates
// nothing; it is meant for a few readings a second, not for one an operation.
// Meters belongs to one goroutine. Close it.
type Meters struct {
	sources []source
	list    []Meter
	present []int     // of all meters of all sources, those in list
	all     []float64 // scratch for one reading of them
	spreads []Spread  // what Distributions lists, empty
	runtime *runtimeSource
}

// A source is read as a whole: a file, or one call.
type source interface {
	// meters lists what the source may tell.
	meters() []Meter
	// read sets one value for each meter, NaN where there is none.
	read(into []float64)
	close() error
}

// OpenMeters finds out what this platform tells. It reads every source once: a
// meter without a value then is absent for good, so that a column never begins
// in the middle.
func OpenMeters() *Meters {
	rt := newRuntimeSource()
	return openMeters(rt, append([]source{rt, cpuSource{}}, platformSources()...))
}

func openMeters(rt *runtimeSource, sources []source) *Meters {
	m := &Meters{sources: sources, runtime: rt, spreads: rt.spreads()}
	var every []Meter
	for _, s := range sources {
		every = append(every, s.meters()...)
	}
	m.all = make([]float64, len(every))
	m.readAll()
	for i, v := range m.all {
		if !math.IsNaN(v) {
			m.present = append(m.present, i)
			m.list = append(m.list, every[i])
		}
	}
	return m
}

// Close closes the files that reading keeps open. It may be called twice.
func (m *Meters) Close() error {
	var errs []error
	for _, s := range m.sources {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// List returns the meters there are, in the order of Snapshot.Values.
func (m *Meters) List() []Meter { return slices.Clone(m.list) }

// A Snapshot is one reading of all meters.
type Snapshot struct {
	At time.Time
	// Values belong to the meters of List. NaN is a reading that failed.
	Values []float64
	// Spreads are the distributions, as totals since the process began.
	Spreads []Spread
}

// NewSnapshot returns one with room for a reading.
func (m *Meters) NewSnapshot() *Snapshot {
	s := &Snapshot{Values: make([]float64, len(m.list)), Spreads: slices.Clone(m.spreads)}
	for i := range s.Spreads {
		s.Spreads[i].counts = make([]uint64, len(s.Spreads[i].counts))
	}
	return s
}

// Read takes a reading into s, which came from NewSnapshot of m.
func (m *Meters) Read(s *Snapshot) {
	s.At = time.Now()
	m.readAll()
	for i, at := range m.present {
		s.Values[i] = m.all[at]
	}
	m.runtime.copySpreads(s.Spreads)
}

func (m *Meters) readAll() {
	rest := m.all
	for _, s := range m.sources {
		n := len(s.meters())
		s.read(rest[:n:n])
		rest = rest[n:]
	}
}

// Value returns the reading of the meter of the name in s. ok is false when
// there is no such meter or its reading failed.
func (m *Meters) Value(s *Snapshot, name string) (v float64, ok bool) {
	i := slices.IndexFunc(m.list, func(one Meter) bool { return one.Name == name })
	if i < 0 || math.IsNaN(s.Values[i]) {
		return 0, false
	}
	return s.Values[i], true
}

// cpuSource reads the processor time of the process.
type cpuSource struct{}

var cpuMeters = []Meter{
	{"cpu-user", "ns", Counter, "times of the process"},
	{"cpu-system", "ns", Counter, "times of the process"},
}

func (cpuSource) meters() []Meter { return cpuMeters }
func (cpuSource) close() error    { return nil }

func (cpuSource) read(into []float64) {
	user, system, ok := CPU()
	if !ok {
		into[0], into[1] = math.NaN(), math.NaN()
		return
	}
	into[0], into[1] = float64(user), float64(system)
}
