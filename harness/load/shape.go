package load

import (
	"fmt"
	"math"
)

// maxPieces bounds the rates of a Step.
const maxPieces = 10_000

// pieces are rates that hold for equal parts of the run.
type pieces []float64

func (p pieces) mean() float64 {
	sum := 0.0
	for _, rate := range p {
		sum += rate
	}
	return sum / float64(len(p))
}

func (p pieces) when(share float64) float64 {
	if len(p) == 1 {
		return share
	}
	left := share * p.mean() * float64(len(p))
	for i, rate := range p {
		if left < rate {
			return (float64(i) + left/rate) / float64(len(p))
		}
		left -= rate
	}
	return 1
}

func (p pieces) check() error {
	if len(p) == 0 || len(p) > maxPieces {
		return fmt.Errorf("%d rates: want 1 to %d", len(p), maxPieces)
	}
	for _, rate := range p {
		if err := checkRate("a rate", rate, 0); err != nil {
			return err
		}
	}
	return nil
}

// ramp goes from one rate to another.
type ramp struct{ from, to float64 }

func (r ramp) mean() float64 { return (r.from + r.to) / 2 }

// when solves from*u + (to-from)*u^2/2 = share*mean for u. Of the two forms of
// the root this one divides by no difference, so a flat ramp is no special case.
func (r ramp) when(share float64) float64 {
	sum := r.from + r.to
	root := math.Sqrt(r.from*r.from + (r.to-r.from)*sum*share)
	if r.from+root == 0 {
		return 0
	}
	return share * sum / (r.from + root)
}

func (r ramp) check() error {
	if err := checkRate("from", r.from, 0); err != nil {
		return err
	}
	return checkRate("to", r.to, 0)
}

// spike is one rate with another in the middle.
type spike struct{ base, peak, share float64 }

func (s spike) mean() float64 { return s.base + (s.peak-s.base)*s.share }

func (s spike) when(share float64) float64 {
	left := share * s.mean()
	begin := (1 - s.share) / 2
	if before := s.base * begin; left < before {
		return left / s.base
	} else if left -= before; left < s.peak*s.share {
		return begin + left/s.peak
	}
	left -= s.peak * s.share
	if s.base == 0 {
		return begin + s.share
	}
	return begin + s.share + left/s.base
}

func (s spike) check() error {
	if !(s.share > 0 && s.share < 1) {
		return fmt.Errorf("a share of %v of the run: want more than 0 and less than 1", s.share)
	}
	if err := checkRate("base", s.base, 0); err != nil {
		return err
	}
	return checkRate("peak", s.peak, 0)
}

// sine swings around a middle rate.
type sine struct {
	middle, amplitude float64
	waves             int
}

// maxWaves keeps a wave longer than the error of the search below.
const maxWaves = 1_000_000

func (s sine) mean() float64 { return s.middle }

// when searches the share u at which the rate's integral, u + k*(1-cos(w*u))
// with w = 2*pi*waves and k = amplitude/(middle*w), has reached share. The
// integral only grows, and is never more than 2k ahead of u.
func (s sine) when(share float64) float64 {
	w := 2 * math.Pi * float64(s.waves)
	k := s.amplitude / s.middle / w
	low, high := max(share-2*k, 0), share
	for range 40 { // a bracket of one wave shrinks to 1e-12 of it
		u := (low + high) / 2
		if u+k*(1-math.Cos(w*u)) < share {
			low = u
		} else {
			high = u
		}
	}
	return (low + high) / 2
}

func (s sine) check() error {
	if s.waves < 1 || s.waves > maxWaves {
		return fmt.Errorf("%d waves: want 1 to %d", s.waves, maxWaves)
	}
	if err := checkRate("mean", s.middle, minRate); err != nil {
		return err
	}
	if !(s.amplitude >= 0 && s.amplitude <= s.middle) {
		return fmt.Errorf("an amplitude of %v operations/s: want 0 to the mean, %v", s.amplitude, s.middle)
	}
	return checkRate("the highest rate", s.middle+s.amplitude, 0)
}
