package measure

import "time"

// A Clock tells the time since it was started, for latencies. Readings of one
// Clock may be subtracted from one another, in any goroutine; a Clock may be
// copied. In a synctest bubble its time is that of the bubble.
//
// It is time.Since, but on Windows: the Go runtime reads there a clock that moves
// by 0.5 to 15.6 ms at once, so that most operations would take no time at all
// and the others a whole step. See clock_windows.go.
type Clock struct {
	epoch   time.Time
	counter counter // nothing but on Windows
}

// StartClock returns a Clock that stands at zero.
func StartClock() Clock {
	c := Clock{epoch: time.Now()}
	if !virtual(c.epoch) {
		c.counter.start()
	}
	return c
}

// Now returns the time since the start.
func (c Clock) Now() time.Duration {
	if c.counter.counts() {
		return c.counter.since()
	}
	return time.Since(c.epoch)
}

// virtual reports whether a moment is of a synctest bubble, whose time passes
// only while all wait, and which no counter of the machine follows. Bubbles begin
// with the year 2000, long before the first machine that this runs on; one of ten
// years is longer than any run.
func virtual(now time.Time) bool {
	year := now.UTC().Year()
	return year >= 2000 && year < 2010
}

// scale returns the time that ticks of a counter take, at so many of them a
// second. The product of ticks and nanoseconds would overflow after a quarter of
// an hour at 10 MHz.
func scale(ticks, frequency int64) time.Duration {
	whole, rest := ticks/frequency, ticks%frequency
	return time.Duration(whole)*time.Second + time.Duration(rest*int64(time.Second)/frequency)
}
