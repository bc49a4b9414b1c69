package measure

import (
	"math"
	"slices"
)

// A Trend is a straight line through a series that a third of outliers cannot
// bend.
type Trend struct {
	// Slope is the growth per unit of x: the median of the slopes between all
	// pairs of points (Theil 1950, Sen 1968).
	Slope float64
	// Low and High bound the slope. A Low above zero is growth that noise does
	// not explain.
	Low, High float64
	// Points is how many points it was drawn through.
	Points int
}

// maxTrendPoints bounds the pairs looked at to half a million. Longer series
// are thinned evenly.
const maxTrendPoints = 1000

// TheilSen draws a line through points of increasing x. Points whose y is not a
// number are left out. The bounds hold the slope with the confidence given, in
// (0, 1): they are the slopes whose ranks stand as far from the middle as
// Kendall's statistic of unrelated data may stray (Sen 1968, normal
// approximation). The approximation takes points as independent; neighbours
// that resemble each other make the bounds too narrow, so a verdict wants an
// effect that matters beside them. ok is false for fewer than ten points and
// where x does not grow.
func TheilSen(xs, ys []float64, confidence float64) (t Trend, ok bool) {
	xs, ys = usable(xs, ys)
	n := len(xs)
	if n < 10 || !(confidence > 0 && confidence < 1) {
		return Trend{}, false
	}
	slopes := make([]float64, 0, n*(n-1)/2)
	for i := range xs {
		for j := i + 1; j < n; j++ {
			if dx := xs[j] - xs[i]; dx > 0 {
				slopes = append(slopes, (ys[j]-ys[i])/dx)
			}
		}
	}
	if len(slopes) == 0 {
		return Trend{}, false
	}
	slices.Sort(slopes)
	// The variance of Kendall's S without ties.
	deviation := math.Sqrt(float64(n) * float64(n-1) * float64(2*n+5) / 18)
	reach := math.Sqrt2 * math.Erfinv(confidence) * deviation
	at := func(rank float64) float64 {
		return slopes[int(min(max(math.Round(rank), 0), float64(len(slopes)-1)))]
	}
	pairs := float64(len(slopes))
	t = Trend{Low: at((pairs-reach)/2 - 1), High: at((pairs + reach) / 2), Points: n}
	middle := len(slopes) / 2
	if t.Slope = slopes[middle]; len(slopes)%2 == 0 {
		t.Slope = slopes[middle-1]/2 + slopes[middle]/2
	}
	return t, true
}

// usable returns the points that are numbers, at most maxTrendPoints of them.
func usable(xs, ys []float64) (x, y []float64) {
	for i := range min(len(xs), len(ys)) {
		if v := ys[i]; !math.IsNaN(v) && !math.IsInf(v, 0) {
			x, y = append(x, xs[i]), append(y, v)
		}
	}
	step := (len(x) + maxTrendPoints - 1) / maxTrendPoints
	if step <= 1 {
		return x, y
	}
	kept := 0
	for i := 0; i < len(x); i += step {
		x[kept], y[kept] = x[i], y[i]
		kept++
	}
	return x[:kept], y[:kept]
}
