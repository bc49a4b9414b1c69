package results

import (
	"fmt"
	"math"

	"golang.org/x/perf/benchmath"
)

// Confidence is the level of every interval: with this probability it covers
// the true median.
const Confidence = 0.95

// MinSamples is the smallest number of samples that has an interval at
// Confidence: five values all lie on one side of the median with a probability
// of 1/16.
const MinSamples = 6

// A Summary is what several samples of one quantity say together.
type Summary struct {
	N int
	// Median is the value in the middle. Medians take no notice of how far off
	// an outlier is.
	Median float64
	// Low and High bound the median with Confidence, by the order statistics of
	// the samples: nothing is assumed of their distribution. With fewer than
	// MinSamples one of them or both are infinite.
	Low, High float64
}

// Summarize returns the summary of values, of which there must be one at least.
func Summarize(values []float64) Summary {
	if len(values) == 0 {
		panic("results: summary of no values")
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), Confidence)
	return Summary{N: len(values), Median: s.Center, Low: s.Lo, High: s.Hi}
}

// Bounded reports whether there is an interval.
func (s Summary) Bounded() bool { return !math.IsInf(s.Low, 0) && !math.IsInf(s.High, 0) }

// Covers reports whether v lies inside the interval, so that the samples do not
// tell on which side of it the median is.
func (s Summary) Covers(v float64) bool { return s.Bounded() && s.Low <= v && v <= s.High }

func (s Summary) String() string {
	if !s.Bounded() {
		return fmt.Sprintf("%.4g (n=%d)", s.Median, s.N)
	}
	return fmt.Sprintf("%.4g [%.4g, %.4g] (n=%d)", s.Median, s.Low, s.High, s.N)
}
