package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// A Schedule says when the operations of an open loop are meant to start.
type Schedule interface {
	// Starts begins the sequence of intended starts for a run of the length
	// given. Shapes such as a ramp stretch over that length and begin again
	// behind it, so the sequence has no end. seed decides whatever is random.
	Starts(length time.Duration, seed uint64) Starts
	// Rate is the mean number of starts per second over the shape.
	Rate() float64
	// Check reports what is wrong with the schedule's numbers. The other
	// methods may only be called when it returns nil.
	Check() error
	// String is the word for a benchmark's name, as in arrival=poisson.
	String() string
}

// A Starts returns the next intended start, counted from the run's begin. It
// never goes backwards.
type Starts func() time.Duration

// Bounds of a rate, in operations per second. Beyond the upper one a start every
// 100 ns would be shorter than the reading of two clocks.
const (
	minRate = 1e-3
	maxRate = 1e7
)

// A Shaped schedule follows a rate that changes over the run. Its starts are
// evenly spaced with regard to the rate, or random (see Random).
type Shaped struct {
	shape  shape
	name   string
	random bool
}

// A shape is a rate over the share of the run that has passed.
type shape interface {
	// mean is the average rate, per second.
	mean() float64
	// when returns by which share of the run a share of its starts is over. It
	// is the inverse of the rate's integral; both shares are in [0, 1].
	when(share float64) float64
	check() error
}

// Constant starts an operation every 1/rate seconds.
func Constant(rate float64) Shaped { return Shaped{shape: pieces{rate}, name: "constant"} }

// Poisson starts operations at random with a constant rate, each independent of
// the others: what many users who know nothing of each other look like. It is
// Constant(rate).Random().
func Poisson(rate float64) Shaped { return Constant(rate).Random() }

// Ramp changes the rate from one to another, linearly over the run. One of
// them may be zero.
func Ramp(from, to float64) Shaped { return Shaped{shape: ramp{from, to}, name: "ramp"} }

// Step holds each rate for an equal part of the run, in their order. Rates of
// zero are pauses.
func Step(rates ...float64) Shaped { return Shaped{shape: pieces(rates), name: "step"} }

// Spike holds the rate base, but for a share of the run, around its middle,
// where it is peak. share is in (0, 1).
func Spike(base, peak, share float64) Shaped {
	return Shaped{shape: spike{base, peak, share}, name: "spike"}
}

// Sine swings around mean by at most amplitude, in that many waves over the
// run, beginning upwards. The amplitude is at most the mean.
func Sine(mean, amplitude float64, waves int) Shaped {
	return Shaped{shape: sine{mean, amplitude, waves}, name: "sine"}
}

// Random returns the schedule with starts that are random and independent at
// the same rates: a Poisson process, for shapes an inhomogeneous one, made by
// sending a process of rate 1 through the inverse of the rate's integral.
func (s Shaped) Random() Shaped {
	s.random = true
	return s
}

// String returns constant, poisson, ramp, step, spike or sine; the last four
// with "random-" before them if they are.
func (s Shaped) String() string {
	switch {
	case !s.random:
		return s.name
	case s.name == "constant":
		return "poisson"
	}
	return "random-" + s.name
}

// Rate returns the mean rate over the shape.
func (s Shaped) Rate() float64 { return s.shape.mean() }

// Check refuses rates that are no numbers, or out of range.
func (s Shaped) Check() error {
	if s.shape == nil {
		return fmt.Errorf("load: schedule: the zero value: want one of the constructors, such as Constant")
	}
	if err := s.shape.check(); err != nil {
		return fmt.Errorf("load: %s: %w", s.name, err)
	}
	if r := s.shape.mean(); r < minRate {
		return fmt.Errorf("load: %s: a mean of %v operations/s: want %v or more", s.name, r, minRate)
	}
	return nil
}

// Starts begins the sequence. Under an even spacing the first start is at the
// begin, unless the rate is zero there.
func (s Shaped) Starts(length time.Duration, seed uint64) Starts {
	length = max(length, 1)
	total := s.shape.mean() * length.Seconds() // starts in one length
	gap := func() float64 { return 1 }
	if s.random {
		r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
		gap = r.ExpFloat64
	}
	var due float64 // starts that the rate's integral has reached
	if s.random {
		due = gap()
	}
	return func() time.Duration {
		round, share := math.Modf(due / total)
		due += gap()
		// The round is added in whole nanoseconds. In floating point the sum
		// of a long run and a short share would be off by more than one.
		if round >= math.Floor(math.MaxInt64/float64(length))-1 {
			return math.MaxInt64 // a Duration holds 292 years, and must not wrap
		}
		return time.Duration(round)*length + time.Duration(math.Round(s.shape.when(share)*float64(length)))
	}
}

// longest bounds the length that Length returns. It leaves a Duration room for
// the rounds behind the first.
const longest = 10 * 365 * 24 * time.Hour

// Length returns the time over which s starts count operations on average: the
// length to give to Starts for a run of that many. It is at most ten years,
// more than any run lasts: a billion operations at the lowest rate would take
// 30,000, which no Duration holds.
func Length(s Schedule, count int) time.Duration {
	seconds := float64(count) / s.Rate()
	if seconds >= longest.Seconds() {
		return longest
	}
	return time.Duration(seconds * float64(time.Second))
}

func checkRate(what string, rate, least float64) error {
	if !(rate >= least && rate <= maxRate) { // NaN is neither
		return fmt.Errorf("%s of %v operations/s: want %v to %v", what, rate, least, maxRate)
	}
	return nil
}
