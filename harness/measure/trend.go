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
// approximation). That takes points as independent; where neighbours resemble each
// other, as intervals of a run do, the slope strays further, and the bounds are
// moved away from it as far as for the number of independent points that tell as
// much (see resemblance). ok is false for fewer than ten points and where x does
// not grow.
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
	normal := math.Sqrt2 * math.Erfinv(confidence)
	reach := normal * deviation
	at := func(rank float64) float64 {
		return slopes[int(min(max(math.Round(rank), 0), float64(len(slopes)-1)))]
	}
	pairs := float64(len(slopes))
	slope := medianOf(slopes)
	// Widening the ranks instead would have no room left for growth that is plain
	// but not straight: its residuals resemble each other most.
	r := resemblance(xs, ys, slope)
	wider := math.Sqrt((1+r)/(1-r)) * student(normal, float64(n)*(1-r)/(1+r)) / normal
	return Trend{
		Slope:  slope,
		Low:    slope - wider*(slope-at((pairs-reach)/2-1)),
		High:   slope + wider*(at((pairs+reach)/2)-slope),
		Points: n,
	}, true
}

// student returns the quantile of Student's distribution that belongs to one of
// the normal, for a line through so many independent points: few of them say
// little of their own spread either. It is the expansion of Fisher and Cornish
// (1960) to its second term, which is too small below three degrees of freedom,
// so that none counts as fewer.
func student(normal, points float64) float64 {
	z, free := normal, max(points-2, 3)
	return z + (z*z*z+z)/(4*free) + (5*math.Pow(z, 5)+16*z*z*z+3*z)/(96*free*free)
}

// medianOf returns the middle of sorted values.
func medianOf(sorted []float64) float64 {
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return sorted[middle-1]/2 + sorted[middle]/2
	}
	return sorted[middle]
}

// maxResemblance keeps the bounds finite: at it, 200 points are worth one.
const maxResemblance = 0.99

// resemblance estimates how much of a point's distance from the line its
// neighbour has as well, from 0 to maxResemblance: the first autocorrelation of
// the residuals, as of a process in which each point keeps that share of the one
// before. n points of it tell as much of their mean as n(1-r)/(1+r) independent
// ones (Bayley and Hammersley 1946; Hamed and Rao 1998 correct the variance of
// Kendall's statistic so, with all autocorrelations: one is less noisy, and errs on
// the side of silence for what swings to and fro). The line was drawn through the
// points themselves, which hides (2+4r)/n of it (Kendall 1954, Marriott and Pope
// 1954, for a mean and a trend).
func resemblance(xs, ys []float64, slope float64) float64 {
	rest := make([]float64, len(xs))
	mean := 0.0
	for i := range xs {
		rest[i] = ys[i] - slope*xs[i]
		mean += rest[i] / float64(len(xs))
	}
	var products, squares float64
	for i, v := range rest {
		squares += (v - mean) * (v - mean)
		if i > 0 {
			products += (v - mean) * (rest[i-1] - mean)
		}
	}
	if products <= 0 {
		return 0
	}
	r := products / squares
	return min(r+(2+4*r)/float64(len(xs)), maxResemblance)
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
