package load

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// until returns the starts before the end of a run.
func until(s Schedule, length time.Duration, seed uint64) []time.Duration {
	next := s.Starts(length, seed)
	var all []time.Duration
	for d := next(); d < length; d = next() {
		all = append(all, d)
	}
	return all
}

func TestConstantIsEven(t *testing.T) {
	next := Constant(1000).Starts(time.Second, 1)
	for i := range 10_000 { // ten times the length: it goes on
		require.Equal(t, time.Duration(i)*time.Millisecond, next())
	}
	require.Len(t, until(Constant(3), time.Second, 1), 3)
}

func TestPoissonGapsAreExponential(t *testing.T) {
	const rate, n = 1000.0, 100_000
	next := Poisson(rate).Starts(time.Second, 7)
	var last time.Duration
	var sum, squares float64
	beyond := 0
	for range n {
		d := next()
		gap := (d - last).Seconds() * rate
		last = d
		sum += gap
		squares += gap * gap
		if gap > 3 {
			beyond++
		}
	}
	mean := sum / n
	require.InDelta(t, 1, mean, 0.01)
	require.InDelta(t, 1, math.Sqrt(squares/n-mean*mean), 0.02, "the deviation of an exponential is its mean")
	require.InEpsilon(t, math.Exp(-3), float64(beyond)/n, 0.05)
}

func TestSeedDecidesRandomStarts(t *testing.T) {
	a, b := until(Poisson(100), time.Second, 1), until(Poisson(100), time.Second, 1)
	require.Equal(t, a, b)
	require.NotEqual(t, a, until(Poisson(100), time.Second, 2))
	require.Equal(t, until(Constant(100), time.Second, 1), until(Constant(100), time.Second, 2))
}

// Each shape against the obvious version: its rate, as written in a textbook,
// added up in small steps.
func TestShapesFollowTheirRate(t *testing.T) {
	const length = 10 * time.Second
	for _, c := range []struct {
		s    Shaped
		rate func(share float64) float64
	}{
		{Constant(500), func(float64) float64 { return 500 }},
		{Ramp(100, 900), func(u float64) float64 { return 100 + 800*u }},
		{Ramp(0, 1000), func(u float64) float64 { return 1000 * u }},
		{Ramp(1000, 0), func(u float64) float64 { return 1000 * (1 - u) }},
		{Step(100, 0, 400), func(u float64) float64 { return []float64{100, 0, 400}[int(u*3)] }},
		{Spike(100, 2000, 0.2), func(u float64) float64 {
			if u >= 0.4 && u < 0.6 {
				return 2000
			}
			return 100
		}},
		{Spike(0, 2000, 0.5), func(u float64) float64 {
			if u >= 0.25 && u < 0.75 {
				return 2000
			}
			return 0
		}},
		{Sine(500, 500, 3), func(u float64) float64 { return 500 + 500*math.Sin(2*math.Pi*3*u) }},
	} {
		for _, s := range []Shaped{c.s, c.s.Random()} {
			t.Run(s.String(), func(t *testing.T) {
				require.NoError(t, s.Check())
				starts := until(s, length, 3)
				require.True(t, slices.IsSorted(starts))
				i, due, biggest := 0, 0.0, 0.0
				const steps = 20_000
				for k := range steps {
					due += c.rate((float64(k)+0.5)/steps) * length.Seconds() / steps
					end := time.Duration(float64(length) * (float64(k) + 1) / steps)
					for i < len(starts) && starts[i] < end {
						i++
					}
					biggest = max(biggest, math.Abs(float64(i)-due))
				}
				require.InEpsilon(t, due/length.Seconds(), s.Rate(), 1e-3)
				allowed := 1.1
				if s.random {
					allowed = 3 * math.Sqrt(due) // the walk of a Poisson process
				}
				require.LessOrEqual(t, biggest, allowed, "starts ahead of or behind the rate's integral")
			})
		}
	}
}

func TestShapesRepeat(t *testing.T) {
	for _, s := range []Shaped{Ramp(100, 300), Sine(200, 100, 1), Spike(100, 600, 0.2), Step(100, 300)} {
		next := s.Starts(time.Second, 1)
		var first, second []time.Duration
		for range 200 {
			first = append(first, next())
		}
		for range 200 {
			second = append(second, next()-time.Second)
		}
		require.Equal(t, 200.0, s.Rate())
		for i := range first {
			require.InDelta(t, first[i], second[i], 2, "%v: start %d, in nanoseconds", s, i)
		}
	}
}

// A Duration holds 292 years. A run that would need more has the longest length
// there is, and its starts stay in order.
func TestLengthsDoNotWrap(t *testing.T) {
	require.Equal(t, 2*time.Second, Length(Constant(50), 100))
	require.Equal(t, 500*time.Millisecond, Length(Ramp(0, 400), 100))
	require.Equal(t, longest, Length(Constant(minRate), 1_000_000_000))
	require.Equal(t, longest, Length(Ramp(0, 2*minRate), math.MaxInt))

	next := Ramp(0, 2*minRate).Starts(longest, 1)
	for last, i := time.Duration(0), 0; i < 10_000_000; i++ {
		now := next()
		if now < last { // ten million times, which require would take seconds for
			require.Failf(t, "backwards", "start %d: %v after %v", i, now, last)
		}
		if last = now; now == math.MaxInt64 {
			return
		}
	}
	require.Fail(t, "the end of time was not reached")
}

func TestScheduleWords(t *testing.T) {
	for s, want := range map[Schedule]string{
		Shaped{name: "sine"}:                "sine",
		Shaped{name: "constant"}:            "constant",
		Shaped{name: "constant"}.Random():   "poisson",
		Ramp(1, 2).Random():                 "random-ramp",
		Shaped{name: "spike"}.Random():      "random-spike",
		Shaped{shape: ramp{}, name: "ramp"}: "ramp",
	} {
		require.Equal(t, want, s.String())
	}
	require.Equal(t, "step", Step(1, 2).String())
}

func TestAbsurdSchedulesAreRefused(t *testing.T) {
	for _, c := range []struct {
		s    Schedule
		want string
	}{
		{Constant(0), "load: constant: a mean of 0 operations/s: want 0.001 or more"},
		{Constant(-1), "load: constant: a rate of -1 operations/s"},
		{Poisson(math.NaN()), "a rate of NaN operations/s"},
		{Constant(math.Inf(1)), "want 0 to 1e+07"},
		{Ramp(-1, 5), "load: ramp: from of -1"},
		{Ramp(1, 1e9), "load: ramp: to of 1e+09"},
		{Ramp(0, 0), "a mean of 0"},
		{Step(), "0 rates: want 1 to 10000"},
		{Step(1, math.NaN()), "load: step: a rate of NaN"},
		{Spike(1, 2, 0), "a share of 0 of the run"},
		{Spike(1, 2, math.NaN()), "a share of NaN"},
		{Spike(-1, 2, 0.5), "load: spike: base of -1"},
		{Spike(1, -2, 0.5), "load: spike: peak of -2"},
		{Sine(100, 101, 1), "an amplitude of 101 operations/s: want 0 to the mean, 100"},
		{Sine(100, 10, 0), "0 waves"},
		{Sine(0, 0, 1), "load: sine: mean of 0"},
		{Sine(9e6, 9e6, 1), "the highest rate of 1.8e+07"},
		{Shaped{}, "the zero value"},
		{Recorded{}, "the zero value"},
	} {
		require.ErrorContains(t, c.s.Check(), c.want)
	}
}

func TestReplayRepeatsTheRecord(t *testing.T) {
	rec, err := Replay(strings.NewReader("# a record\n\n0s\n 10ms \n10ms\r\n30ms\n"))
	require.NoError(t, err)
	require.NoError(t, rec.Check())
	require.Equal(t, 4, rec.Len())
	next := rec.Starts(time.Hour, 9)
	var got []time.Duration
	for range 6 {
		got = append(got, next()/time.Millisecond)
	}
	require.Equal(t, []time.Duration{0, 10, 10, 30, 40, 50}, got)
	require.InEpsilon(t, 100, rec.Rate(), 1e-9)
	require.Equal(t, "replay", rec.String())
}

func TestHostileRecords(t *testing.T) {
	many := strings.Repeat("1s\n", maxRecorded)
	for text, want := range map[string]string{
		"":                                   "0 starts",
		"1s\n":                               "1 starts, all at one moment",
		"1s\n1s\n":                           "2 starts, all at one moment",
		"1s\n12\n":                           `line 2: "12": want a duration with its unit`,
		"1s\n\n-5ms\n":                       "line 3: a start at -5ms: want 0 to",
		"1s\n999999h\n":                      "line 2: a start at 999999h0m0s",
		"2s\n1s\n":                           "line 2: a start at 1s behind one at 2s: want none earlier",
		"1s\n" + strings.Repeat("x", 10_000): "line 2: more than 4096 bytes",
		"1s\n\x00\xff\n":                     `line 2: "\x00\xff"`,
		many + "2s\n":                        fmt.Sprintf("line %d: more than %d starts", maxRecorded+1, maxRecorded),
	} {
		_, err := Replay(strings.NewReader(text))
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "load: replay: ")
	}
	_, err := Replay(failing{})
	require.ErrorContains(t, err, "load: replay: line 1: cable cut")
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, fmt.Errorf("cable cut") }

func FuzzReplay(f *testing.F) {
	f.Add("0s\n1ms\n")
	f.Add("# x\n1h\n2h")
	f.Fuzz(func(t *testing.T, text string) {
		rec, err := Replay(strings.NewReader(text))
		if err != nil {
			return
		}
		require.Positive(t, rec.Rate())
		next := rec.Starts(0, 0)
		last := time.Duration(-1)
		for range 3*min(rec.Len(), 1000) + 1 {
			d := next()
			require.GreaterOrEqual(t, d, last)
			last = d
		}
	})
}

func TestNextStartAllocatesNothing(t *testing.T) {
	for _, s := range []Schedule{Constant(10), Poisson(10), Sine(10, 5, 3).Random()} {
		next := s.Starts(time.Second, 1)
		require.Zero(t, testing.AllocsPerRun(1000, func() { next() }), "%v", s)
	}
}
