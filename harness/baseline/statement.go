package baseline

import (
	"fmt"
	"math"
)

// A Statement is a Finding as it is written down: all that somebody needs who has
// neither the baselines nor the results, in the numbers that JSON has. What is
// not known is absent.
type Statement struct {
	Baseline   string  `json:"baseline"`
	Kind       Kind    `json:"kind"`
	Verdict    Verdict `json:"verdict"`
	Package    string  `json:"package"`
	Benchmark  string  `json:"benchmark"`
	Processors int     `json:"processors,omitempty"`
	Mode       string  `json:"mode,omitempty"`
	// Unit is that of Value, Low and High; "" for a law of scaling, whose value
	// is a ratio.
	Unit     string `json:"unit,omitempty"`
	Expected string `json:"expected"`
	// Samples are those that the verdict rests on; without any there is no value.
	Samples int      `json:"samples"`
	Value   *float64 `json:"value,omitempty"` // the median
	// Low and High bound the median at 95 % where there are samples enough.
	Low  *float64 `json:"low,omitempty"`
	High *float64 `json:"high,omitempty"`
	// Margin is a share of the limit, or of a band's allowance.
	Margin  *float64 `json:"margin,omitempty"`
	Note    string   `json:"note,omitempty"`
	Reason  string   `json:"reason"`
	Defined string   `json:"defined"` // file and line
}

// Statement returns f as it is written down.
func (f *Finding) Statement() Statement {
	e := f.Entry
	s := Statement{
		Baseline: e.Name, Kind: e.Kind, Verdict: f.Verdict, Package: e.Package, Benchmark: f.Row, Processors: f.Procs, Mode: f.Mode,
		Expected: e.Expected(), Samples: f.Summary.N, Note: f.Note, Reason: e.Reason, Defined: fmt.Sprintf("%s:%d", e.File, e.Line),
	}
	if e.Kind != Scaling {
		s.Unit = e.Unit
	}
	if f.Summary.N > 0 {
		s.Value, s.Low, s.High, s.Margin = finite(f.Summary.Median), finite(f.Summary.Low), finite(f.Summary.High), finite(f.Margin)
	}
	return s
}

// finite returns nil for what JSON has no number for.
func finite(v float64) *float64 {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return nil
	}
	return &v
}
