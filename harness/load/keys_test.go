package load

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// counts draws keys below n and returns how often each came.
func counts(t *testing.T, keys Keys, n uint64, draws int) []float64 {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	got := make([]float64, n)
	for range draws {
		k := keys.Key(r)
		if k >= n {
			t.Fatalf("key %d: want one below %d", k, n)
		}
		got[k]++
	}
	return got
}

// chiSquare compares counts with expected ones, and returns the statistic
// less its mean, over its deviation: below 4 unless the two differ.
func chiSquare(got, want []float64) float64 {
	x, free := 0.0, -1.0
	for i := range got {
		if want[i] > 0 {
			x += (got[i] - want[i]) * (got[i] - want[i]) / want[i]
			free++
		}
	}
	return (x - free) / math.Sqrt(2*free)
}

func TestUniformKeys(t *testing.T) {
	u, err := NewUniform(100)
	require.NoError(t, err)
	want := make([]float64, 100)
	for i := range want {
		want[i] = 1000
	}
	require.Less(t, chiSquare(counts(t, u, 100, 100_000), want), 4.0)
	require.Equal(t, "uniform", u.String())
}

func TestHotSpotKeys(t *testing.T) {
	h, err := NewHotSpot(100, 10, 0.8)
	require.NoError(t, err)
	want := make([]float64, 100)
	for i := range want {
		want[i] = 20_000.0 / 90
		if i < 10 {
			want[i] = 80_000.0 / 10
		}
	}
	require.Less(t, chiSquare(counts(t, h, 100, 100_000), want), 4.0)
	require.Equal(t, "hotspot", h.String())
}

func TestZetaAgainstItsSum(t *testing.T) {
	for _, theta := range []float64{0.01, 0.5, 0.99, 0.999} {
		sum := 0.0
		for n := uint64(1); n <= 200_000; n++ {
			sum += math.Pow(float64(n), -theta)
			if n < 40 || n == 1000 || n == 200_000 {
				require.InEpsilon(t, sum, newSums(theta).zeta(n), 1e-10, "theta %v, n %d", theta, n)
			}
		}
	}
	// The constant that YCSB carries for its 10,000,000,000 items.
	require.InEpsilon(t, 26.46902820178302, newSums(Theta).zeta(10_000_000_000), 1e-9)
}

// The method written down once more as in the paper, from the slow sum.
func grayRank(n uint64, theta, u float64) uint64 {
	zetan := 0.0
	for i := uint64(1); i <= n; i++ {
		zetan += 1 / math.Pow(float64(i), theta)
	}
	alpha := 1 / (1 - theta)
	eta := (1 - math.Pow(2/float64(n), 1-theta)) / (1 - (1+1/math.Pow(2, theta))/zetan)
	uz := u * zetan
	if uz < 1 {
		return 0
	}
	if uz < 1+math.Pow(0.5, theta) {
		return 1
	}
	return uint64(float64(n) * math.Pow(eta*u-eta+1, alpha))
}

func TestZipfianAgainstThePaper(t *testing.T) {
	for _, theta := range []float64{0.2, 0.5, Theta} {
		z, err := NewZipfian(1000, theta)
		require.NoError(t, err)
		for i := range 2000 {
			u := (float64(i) + 0.31) / 2000
			require.InDelta(t, grayRank(1000, theta, u), z.rank(u), 0, "theta %v, u %v", theta, u)
		}
	}
}

func TestZipfianPopularity(t *testing.T) {
	const n, draws = 1000, 1_000_000
	z, err := NewZipfian(n, Theta)
	require.NoError(t, err)
	got := counts(t, z, n, draws)
	total := newSums(Theta).zeta(n)
	for rank, tolerance := range map[int]float64{0: 0.01, 1: 0.01, 9: 0.15, 99: 0.15} {
		want := draws / math.Pow(float64(rank+1), Theta) / total
		require.InEpsilon(t, want, got[rank], tolerance, "rank %d", rank)
	}
	require.Equal(t, "zipfian", z.String())
}

func TestZipfianOfFewKeys(t *testing.T) {
	for n := uint64(1); n <= 5; n++ {
		z, err := NewZipfian(n, Theta)
		require.NoError(t, err)
		got := counts(t, z, n, 10_000)
		for i, c := range got {
			require.Positive(t, c, "key %d of %d", i, n)
		}
		require.Less(t, z.rank(math.Nextafter(1, 0)), n)
	}
}

func TestLatestFollowsTheNewest(t *testing.T) {
	var count atomic.Uint64
	l, err := NewLatest(count.Load, Theta)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	require.Zero(t, l.Key(r), "no keys yet")
	for _, n := range []uint64{1, 2, 100, 1000} {
		count.Store(n)
		got := counts(t, l, n, 100_000)
		want := 100_000 / newSums(Theta).zeta(n)
		require.InEpsilon(t, want, got[n-1], 0.03, "the newest of %d", n)
	}
	require.Equal(t, "latest", l.String())
}

func TestScramblePermutes(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 7, 8, 1000, 4097} {
		u, err := NewUniform(n)
		require.NoError(t, err)
		s, err := Scramble(u, n)
		require.NoError(t, err)
		seen := map[uint64]bool{}
		for i := range n {
			p := s.Place(i)
			require.Less(t, p, n)
			require.False(t, seen[p], "place %d of %d is taken", p, n)
			seen[p] = true
		}
	}
}

// The hundred most popular of 10,000 keys must not gather: over ten shards they
// are spread as evenly as chance would.
func TestScrambleSpreadsHotKeys(t *testing.T) {
	const n = 10_000
	z, err := NewZipfian(n, Theta)
	require.NoError(t, err)
	s, err := Scramble(z, n)
	require.NoError(t, err)
	got, want := make([]float64, 10), make([]float64, 10)
	for i := range uint64(100) {
		got[s.Place(i)*10/n]++
		want[s.Place(i)*10/n] = 10
	}
	require.Less(t, chiSquare(got, want), 4.0, "%v", got)

	drawn := counts(t, s, n, 100_000)
	require.InEpsilon(t, 100_000/newSums(Theta).zeta(n), drawn[s.Place(0)], 0.03, "as popular as before")
	require.Equal(t, "zipfian", s.String())
}

func TestSizesKeepTheirBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	fixed, err := FixedSize(64)
	require.NoError(t, err)
	uniform, err := UniformSize(10, 13)
	require.NoError(t, err)
	log, err := LognormalSize(1000, 1, 20_000)
	require.NoError(t, err)
	got := make([]float64, 4)
	below, beyond, capped := 0, 0, 0
	for range 100_000 {
		got[uniform.Size(r)-10]++
		n := log.Size(r)
		if n < 0 || n > 20_000 || fixed.Size(r) != 64 {
			t.Fatalf("sizes %d of lognormal, %d of fixed", n, fixed.Size(r))
		}
		if n < 1000 {
			below++
		}
		if n > 2718 { // a deviation above the middle
			beyond++
		}
		if n == 20_000 {
			capped++
		}
	}
	require.Less(t, chiSquare(got, []float64{25_000, 25_000, 25_000, 25_000}), 4.0)
	require.InDelta(t, 50_000, below, 600)
	require.InDelta(t, 15_866, beyond, 500)
	require.InDelta(t, 137, capped, 40, "ln 20 is three deviations above the middle")
	require.Equal(t, []string{"fixed", "uniform", "lognormal"}, []string{fixed.String(), uniform.String(), log.String()})
	require.Equal(t, []int{64, 13, 20_000}, []int{fixed.Max(), uniform.Max(), log.Max()})
}

func TestMixFollowsItsWeights(t *testing.T) {
	m, err := NewMix(Kind{"read", 80}, Kind{"write", 15}, Kind{"scan-8x", 5})
	require.NoError(t, err)
	require.Equal(t, 3, m.Len())
	require.Equal(t, "scan-8x", m.Kind(2).Name)
	r := rand.New(rand.NewPCG(5, 6))
	got := make([]float64, 3)
	for range 100_000 {
		got[m.Pick(r)]++
	}
	require.Less(t, chiSquare(got, []float64{80_000, 15_000, 5000}), 4.0)
}

func TestAbsurdDistributionsAreRefused(t *testing.T) {
	u, err := NewUniform(5)
	require.NoError(t, err)
	many := make([]Kind, maxKinds+1)
	for _, c := range []struct {
		make func() error
		want string
	}{
		{func() error { _, err := NewUniform(0); return err }, "load: uniform: 0 keys: want 1 to"},
		{func() error { _, err := NewUniform(1 << 60); return err }, "load: uniform: 1152921504606846976 keys"},
		{func() error { _, err := NewZipfian(0, Theta); return err }, "load: zipfian: 0 keys"},
		{func() error { _, err := NewZipfian(9, 1); return err }, "load: zipfian: a theta of 1: want more than 0 and less than 1"},
		{func() error { _, err := NewZipfian(9, math.NaN()); return err }, "a theta of NaN"},
		{func() error { _, err := NewLatest(nil, Theta); return err }, "load: latest: no count"},
		{func() error { _, err := NewLatest(func() uint64 { return 1 }, 0); return err }, "load: latest: a theta of 0"},
		{func() error { _, err := NewHotSpot(0, 1, 0.5); return err }, "load: hot spot: 0 keys"},
		{func() error { _, err := NewHotSpot(9, 9, 0.5); return err }, "load: hot spot: 9 hot keys of 9: want 1 to 8"},
		{func() error { _, err := NewHotSpot(9, 1, math.NaN()); return err }, "load: hot spot: a share of NaN"},
		{func() error { _, err := Scramble(nil, 5); return err }, "load: scramble: no keys"},
		{func() error { _, err := Scramble(u, 0); return err }, "load: scramble: 0 keys"},
		{func() error { _, err := FixedSize(-1); return err }, "load: fixed sizes: -1 to -1 bytes"},
		{func() error { _, err := UniformSize(9, 8); return err }, "load: uniform sizes: 9 to 8 bytes: want 0 to"},
		{func() error { _, err := UniformSize(0, maxSize+1); return err }, "load: uniform sizes"},
		{func() error { _, err := LognormalSize(0, 1, 9); return err }, "a median of 0 bytes"},
		{func() error { _, err := LognormalSize(1, 6, 9); return err }, "a sigma of 6"},
		{func() error { _, err := LognormalSize(1, math.NaN(), 9); return err }, "a sigma of NaN"},
		{func() error { _, err := NewMix(); return err }, "load: mix: 0 kinds"},
		{func() error { _, err := NewMix(many...); return err }, "load: mix: 33 kinds: want 1 to 32"},
		{func() error { _, err := NewMix(Kind{"Read", 1}); return err }, `load: mix: kind "Read": want lower-case`},
		{func() error { _, err := NewMix(Kind{"", 1}); return err }, `load: mix: kind "": want lower-case`},
		{func() error { _, err := NewMix(Kind{"read-16", 1}); return err }, `load: mix: kind "read-16": want a name that does not end in a hyphen and digits`},
		{func() error { _, err := NewMix(Kind{"-0", 1}); return err }, `load: mix: kind "-0": want a name that does not end in a hyphen and digits`},
		{func() error { _, err := NewMix(Kind{"a", 1}, Kind{"a", 1}); return err }, `kind "a": appears twice`},
		{func() error { _, err := NewMix(Kind{"a", 0}); return err }, `kind "a": a weight of 0: want 1 to`},
	} {
		require.ErrorContains(t, c.make(), c.want)
	}
}

func TestDrawingAllocatesNothing(t *testing.T) {
	z, err := NewZipfian(1000, Theta)
	require.NoError(t, err)
	s, err := Scramble(z, 1000)
	require.NoError(t, err)
	l, err := NewLatest(func() uint64 { return 1000 }, Theta)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 1))
	for _, k := range []Keys{z, s, l} {
		require.Zero(t, testing.AllocsPerRun(1000, func() { k.Key(r) }))
	}
}
