package load

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
)

// A Keys draws the numbers of keys. It is safe for concurrent use as long as
// each caller brings a *rand.Rand of its own, and allocates nothing.
type Keys interface {
	// Key returns a number in [0, n), n as the constructor was told.
	Key(r *rand.Rand) uint64
	// String is the word for a benchmark's name, as in keys=zipfian.
	String() string
}

// maxKeys keeps numbers exact in the floating point of the distributions.
const maxKeys = 1 << 50

func checkKeys(what string, n uint64) error {
	if n < 1 || n > maxKeys {
		return fmt.Errorf("load: %s: %d keys: want 1 to %d", what, n, uint64(maxKeys))
	}
	return nil
}

// Uniform draws every key equally often.
type Uniform struct{ n uint64 }

// NewUniform returns a distribution over n keys.
func NewUniform(n uint64) (Uniform, error) { return Uniform{n}, checkKeys("uniform", n) }

// Key returns one of n numbers.
func (u Uniform) Key(r *rand.Rand) uint64 { return r.Uint64N(u.n) }

// String returns "uniform".
func (u Uniform) String() string { return "uniform" }

// HotSpot draws from a set of hot keys for a share of all operations, from the
// others for the rest, and evenly within both.
type HotSpot struct {
	n, hot uint64
	share  float64
}

// NewHotSpot returns a distribution over n keys, of which the first hot ones
// take a share of the operations: NewHotSpot(1000, 10, 0.8) sends 80 % to 1 % of
// the keys. hot is at least 1 and below n, share in [0, 1].
func NewHotSpot(n, hot uint64, share float64) (HotSpot, error) {
	if err := checkKeys("hot spot", n); err != nil {
		return HotSpot{}, err
	}
	if hot < 1 || hot >= n {
		return HotSpot{}, fmt.Errorf("load: hot spot: %d hot keys of %d: want 1 to %d", hot, n, n-1)
	}
	if !(share >= 0 && share <= 1) {
		return HotSpot{}, fmt.Errorf("load: hot spot: a share of %v: want 0 to 1", share)
	}
	return HotSpot{n, hot, share}, nil
}

// Key returns a hot key, below hot, or one of the others.
func (h HotSpot) Key(r *rand.Rand) uint64 {
	if r.Float64() < h.share {
		return r.Uint64N(h.hot)
	}
	return h.hot + r.Uint64N(h.n-h.hot)
}

// String returns "hotspot".
func (h HotSpot) String() string { return "hotspot" }

// Latest draws the newest keys most often: the one written last is the most
// popular, the one before it the second, as in a Zipfian over their age.
type Latest struct {
	count func() uint64
	sums  *sums
}

// NewLatest returns a distribution over the keys written so far, 0 to count()-1.
// count is read at each draw, may grow meanwhile, and must be safe for
// concurrent use; where it returns 0, the only key is 0. theta is as for
// NewZipfian.
func NewLatest(count func() uint64, theta float64) (Latest, error) {
	if count == nil {
		return Latest{}, fmt.Errorf("load: latest: no count: want a function that returns the number of keys")
	}
	return Latest{count, newSums(theta)}, checkTheta("latest", theta)
}

// Key returns a number below count(). It takes two powers more than a Zipfian,
// since the number of keys may be another each time.
func (l Latest) Key(r *rand.Rand) uint64 {
	n := min(max(l.count(), 1), maxKeys)
	return n - 1 - l.sums.curve(n).Key(r)
}

// String returns "latest".
func (l Latest) String() string { return "latest" }

// Scrambled spreads the popular keys of a distribution over the whole key
// space, so that they do not all lie in one shard.
//
// YCSB hashes the number and takes the remainder by the number of keys; two
// popular keys may then meet in one, and others are never drawn. This one
// permutes, so that every key keeps exactly the popularity it had.
type Scrambled struct {
	keys Keys
	n    uint64
	bits int // of the smaller half of the numbers permuted
	wide int // of the larger half
}

// Scramble returns keys in an order that looks random and is always the same.
// keys must draw numbers below n.
func Scramble(keys Keys, n uint64) (Scrambled, error) {
	if keys == nil {
		return Scrambled{}, fmt.Errorf("load: scramble: no keys: want a distribution")
	}
	if err := checkKeys("scramble", n); err != nil {
		return Scrambled{}, err
	}
	all := max(bits.Len64(n-1), 2)
	return Scrambled{keys, n, all / 2, all - all/2}, nil
}

// Key returns the permuted number of a key.
func (s Scrambled) Key(r *rand.Rand) uint64 { return s.Place(s.keys.Key(r)) }

// Place returns where the key that was i before stands, for tests and for
// whoever wants to know which keys are hot. i must be below n.
//
// It is a Feistel network of four rounds over the smallest range of whole bits
// that holds n, walked until the number falls below n: less than two steps on
// average.
func (s Scrambled) Place(i uint64) uint64 {
	if s.n == 1 {
		return 0
	}
	for {
		left, right := i>>s.wide, i&(1<<s.wide-1)
		small, large := s.bits, s.wide
		for round := range uint64(4) {
			left, right = right, left^mix(right+round<<56)&(1<<small-1)
			small, large = large, small
		}
		if i = left<<large | right; i < s.n {
			return i
		}
	}
}

// String returns the word of the distribution below: scrambling changes where
// its keys lie, not how popular they are.
func (s Scrambled) String() string { return s.keys.String() }

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood, 2014): each bit of
// the result depends on all bits of x.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func checkTheta(what string, theta float64) error {
	if !(theta > 0 && theta < 1) || math.IsNaN(theta) {
		return fmt.Errorf("load: %s: a theta of %v: want more than 0 and less than 1", what, theta)
	}
	return nil
}
