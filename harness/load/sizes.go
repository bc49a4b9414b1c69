package load

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// maxSize bounds a value: 1 GiB.
const maxSize = 1 << 30

// Sizes draws the sizes of values, in bytes. The zero value is of no use; it
// is safe for concurrent use with a *rand.Rand for each caller.
type Sizes struct {
	name      string
	low, high int
	mu, sigma float64 // of the logarithm
}

// FixedSize gives every value the same size, 0 to 1 GiB.
func FixedSize(bytes int) (Sizes, error) { return sizes("fixed", bytes, bytes) }

// UniformSize gives each size from low to high, both included, equally often.
func UniformSize(low, high int) (Sizes, error) { return sizes("uniform", low, high) }

// LognormalSize gives sizes whose logarithm is normal, with many small values
// and few large ones, as object stores see them. Half of them lie below median;
// sigma, in (0, 5], is the deviation of the natural logarithm. A size beyond
// most counts as most.
func LognormalSize(median int, sigma float64, most int) (Sizes, error) {
	s, err := sizes("lognormal", median, most)
	if err != nil {
		return Sizes{}, err
	}
	if median < 1 {
		return Sizes{}, fmt.Errorf("load: lognormal sizes: a median of %d bytes: want 1 or more", median)
	}
	if !(sigma > 0 && sigma <= 5) {
		return Sizes{}, fmt.Errorf("load: lognormal sizes: a sigma of %v: want more than 0 and at most 5", sigma)
	}
	s.mu, s.sigma = math.Log(float64(median)), sigma
	return s, nil
}

func sizes(name string, low, high int) (Sizes, error) {
	if low < 0 || high < low || high > maxSize {
		return Sizes{}, fmt.Errorf("load: %s sizes: %d to %d bytes: want 0 to %d, the smaller one first", name, low, high, maxSize)
	}
	return Sizes{name: name, low: low, high: high}, nil
}

// Size returns a size in bytes.
func (s Sizes) Size(r *rand.Rand) int {
	switch {
	case s.sigma > 0:
		return int(min(math.Round(math.Exp(s.mu+s.sigma*r.NormFloat64())), float64(s.high)))
	case s.low == s.high:
		return s.low
	}
	return s.low + r.IntN(s.high-s.low+1)
}

// Max returns the largest size that can come, for a buffer to draw from.
func (s Sizes) Max() int { return s.high }

// String returns fixed, uniform or lognormal, as in size=lognormal.
func (s Sizes) String() string { return s.name }
