package liveness

import (
	"math"
	"time"
)

// intervals are the latest times between heartbeats of a node.
type intervals struct {
	ring    []float64 // seconds
	next    int
	sum     float64
	squares float64
}

func (v *intervals) add(d time.Duration, window int) {
	s := d.Seconds()
	if len(v.ring) < window {
		v.ring = append(v.ring, s)
	} else {
		old := v.ring[v.next]
		v.sum -= old
		v.squares -= old * old
		v.ring[v.next] = s
		v.next = (v.next + 1) % window
	}
	v.sum += s
	v.squares += s * s
}

// moments are the mean and the standard deviation, of at least expected and floor:
// what was heard a few times too early, or with great regularity, does not make a
// node suspect for being punctual.
func (v *intervals) moments(expected, floor time.Duration) (mean, deviation float64) {
	n := float64(len(v.ring))
	mean, deviation = expected.Seconds(), floor.Seconds()
	if n == 0 {
		return mean, deviation
	}
	m := v.sum / n
	variance := max(0, v.squares/n-m*m)
	return max(mean, m), max(deviation, math.Sqrt(variance))
}

// phi is -log10 of the probability that a node which lives is silent for longer. It
// is 0 or more, and grows with the silence without end.
func (v *intervals) phi(silence, expected, floor time.Duration) float64 {
	mean, deviation := v.moments(expected, floor)
	y := (silence.Seconds() - mean) / deviation
	if y < far {
		return -math.Log10(math.Erfc(y/math.Sqrt2) / 2)
	}
	// Erfc will be zero: the first two terms of its asymptotic series, which differ
	// from it by a part in 10^5 here and less beyond.
	return (y*y/2 + math.Log(y*math.Sqrt(2*math.Pi)) - math.Log1p(-1/(y*y))) * math.Log10E
}

// far is where the tail of the normal distribution is better had from its series.
const far = 30
