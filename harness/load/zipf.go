package load

import (
	"math"
	"math/rand/v2"
)

// Theta is the skew that YCSB uses. With a million keys the most popular one
// then takes about 6.5 % of all operations.
const Theta = 0.99

// Zipfian draws key i with a probability proportional to 1/(i+1)^theta, by the
// method of Gray et al., "Quickly generating billion-record synthetic
// databases", SIGMOD 1994, which YCSB uses too. The two most popular keys are
// exact; the others follow a continuous curve through them.
type Zipfian struct {
	n, alpha  float64
	zeta, eta float64
	second    float64 // the sum of the first two terms of zeta
}

// NewZipfian returns a distribution over n keys in the order of their
// popularity; see Scramble. theta is in (0, 1): Theta is the usual one, and the
// smaller it is, the more even the load.
func NewZipfian(n uint64, theta float64) (Zipfian, error) {
	if err := checkKeys("zipfian", n); err != nil {
		return Zipfian{}, err
	}
	if err := checkTheta("zipfian", theta); err != nil {
		return Zipfian{}, err
	}
	return newSums(theta).curve(n), nil
}

// curve returns the distribution over as many keys, given the sums of theta.
func (s *sums) curve(keys uint64) Zipfian {
	n := float64(keys)
	z := Zipfian{n: n, alpha: 1 / (1 - s.theta), zeta: s.zeta(keys), second: s.head[1]}
	if keys > 2 {
		z.eta = (1 - math.Pow(2/n, 1-s.theta)) / (1 - z.second/z.zeta)
	}
	return z
}

// Key returns the rank of a key: 0 is the most popular.
func (z Zipfian) Key(r *rand.Rand) uint64 { return z.rank(r.Float64()) }

// rank maps a number in [0, 1) to a key.
func (z Zipfian) rank(u float64) uint64 {
	switch mass := u * z.zeta; {
	case mass < 1:
		return 0
	case mass < z.second || z.n <= 2:
		return 1
	}
	// u just below 1 may round to n.
	return uint64(min(z.n*math.Pow(z.eta*u-z.eta+1, z.alpha), z.n-1))
}

// String returns "zipfian".
func (z Zipfian) String() string { return "zipfian" }

// sums adds up 1/i^theta. The obvious way adds a billion terms for a billion
// keys. The Euler-Maclaurin formula takes the first few, an integral and three
// corrections, and is exact to about twelve digits.
type sums struct {
	theta float64
	head  [exactTerms]float64 // the sums of the first terms: 1, 1 + 1/2^theta, ...
	edge  float64             // the last of these terms
}

// exactTerms are added up one by one.
const exactTerms = 16

func newSums(theta float64) *sums {
	s := &sums{theta: theta}
	sum := 0.0
	for i := range s.head {
		s.edge = math.Pow(float64(i+1), -theta)
		sum += s.edge
		s.head[i] = sum
	}
	return s
}

// zeta returns the sum from 1 to n, for n of at least 1.
func (s *sums) zeta(n uint64) float64 {
	if n <= exactTerms {
		return s.head[n-1]
	}
	t, a, b := s.theta, float64(exactTerms), float64(n)
	fa, fb := s.edge, math.Pow(b, -t)
	return s.head[exactTerms-1] +
		(b*fb-a*fa)/(1-t) +
		(fb-fa)/2 +
		t/12*(fa/a-fb/b) -
		t*(t+1)*(t+2)/720*(fa/(a*a*a)-fb/(b*b*b))
}
