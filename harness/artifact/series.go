package artifact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Kinds of meters and columns.
const (
	// Gauge is a level, read at one moment. In a series it is the level at the
	// end of the interval.
	Gauge = "gauge"
	// Counter is a total that only grows. In a series it is the growth within
	// the interval.
	Counter = "counter"
)

// A Series is a run cut into intervals. All columns are as long as Ends.
type Series struct {
	Schema int `json:"schema"`
	// Interval is the length aimed at; the real ones follow from Ends.
	Interval int64 `json:"interval_ns"`
	// Ends are the ends of the intervals, in seconds since Sample.Start. The
	// first interval begins at 0.
	Ends    Floats   `json:"ends_s"`
	Columns []Column `json:"columns"`
}

// A Column is one quantity through the run.
type Column struct {
	Name   string `json:"name"`
	Unit   string `json:"unit"`
	Kind   string `json:"kind"`
	Source string `json:"source,omitempty"`
	Values Floats `json:"values"`
}

// Column returns the column of the name.
func (s *Series) Column(name string) (Column, bool) {
	for _, c := range s.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}

func (s *Series) check() error {
	if err := checkSchema(s.Schema); err != nil {
		return err
	}
	if len(s.Ends) > maxInterval || len(s.Columns) > maxColumns {
		return fmt.Errorf("%d intervals of %d columns: want at most %d and %d",
			len(s.Ends), len(s.Columns), maxInterval, maxColumns)
	}
	for i, end := range s.Ends {
		if math.IsNaN(end) || end < 0 || i > 0 && end < s.Ends[i-1] {
			return fmt.Errorf("interval %d ends at %v s: want times in order", i, end)
		}
	}
	seen := map[string]bool{}
	for _, c := range s.Columns {
		if err := checkMeter(c.Name, c.Unit, c.Kind); err != nil {
			return err
		}
		if seen[c.Name] {
			return fmt.Errorf("column %s stands there twice: want each once", c.Name)
		}
		seen[c.Name] = true
		if len(c.Values) != len(s.Ends) {
			return fmt.Errorf("column %s has %d values: want %d, one an interval", c.Name, len(c.Values), len(s.Ends))
		}
	}
	return nil
}

// Meters are all meters over the measured part.
type Meters struct {
	Schema int     `json:"schema"`
	Meters []Meter `json:"meters"`
}

// A Meter is one quantity over the measured part. Fields that have no meaning
// for its kind are absent.
type Meter struct {
	Name   string `json:"name"`
	Unit   string `json:"unit"`
	Kind   string `json:"kind"`
	Source string `json:"source"`

	// Start and End are the readings at both ends.
	Start *float64 `json:"start,omitempty"`
	End   *float64 `json:"end,omitempty"`
	// Delta is End - Start of a counter, and PerOp that over the operations.
	Delta *float64 `json:"delta,omitempty"`
	PerOp *float64 `json:"per_op,omitempty"`
	// Max is the largest reading of a gauge, the ends and the samples between.
	Max *float64 `json:"max,omitempty"`
	// Quantiles are of a distribution, within the resolution of its source.
	Quantiles map[string]float64 `json:"quantiles,omitempty"`
}

// Meter returns the meter of the name.
func (m *Meters) Meter(name string) (Meter, bool) {
	for _, one := range m.Meters {
		if one.Name == name {
			return one, true
		}
	}
	return Meter{}, false
}

func (m *Meters) check() error {
	if err := checkSchema(m.Schema); err != nil {
		return err
	}
	if len(m.Meters) > maxEntries {
		return fmt.Errorf("%d meters: want at most %d", len(m.Meters), maxEntries)
	}
	for _, one := range m.Meters {
		if err := checkMeter(one.Name, one.Unit, one.Kind); err != nil {
			return err
		}
	}
	return nil
}

func checkMeter(name, unit, kind string) error {
	if name == "" || len(name) > 100 || len(unit) > 100 {
		return fmt.Errorf("meter %.80q in %.80q: want a name and a unit of at most 100 bytes", name, unit)
	}
	if kind != Gauge && kind != Counter {
		return fmt.Errorf("meter %s is a %.80q: want %s or %s", name, kind, Gauge, Counter)
	}
	return nil
}

// Floats are numbers of which some are unknown: NaN here, null in JSON, which
// has no NaN.
type Floats []float64

// MarshalJSON writes unknown and infinite numbers as null.
func (f Floats) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 8*len(f)+2)
	out = append(out, '[')
	for i, v := range f {
		if i > 0 {
			out = append(out, ',')
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			out = append(out, "null"...)
		} else {
			out = strconv.AppendFloat(out, v, 'g', -1, 64)
		}
	}
	return append(out, ']'), nil
}

// UnmarshalJSON reads null as NaN.
func (f *Floats) UnmarshalJSON(data []byte) error {
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		*f = nil
		return nil
	}
	if n := bytes.Count(data, []byte{','}) + 1; n > maxInterval {
		return fmt.Errorf("artifact: column of %d values: want at most %d", n, maxInterval)
	}
	var values []*float64
	if err := json.Unmarshal(data, &values); err != nil {
		return fmt.Errorf("artifact: column: %w", err)
	}
	*f = make(Floats, len(values))
	for i, v := range values {
		(*f)[i] = math.NaN()
		if v != nil {
			(*f)[i] = *v
		}
	}
	return nil
}
