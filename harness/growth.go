package harness

import (
	"math"
	"time"
)

const (
	// maxSlices bounds a timeline; it joins them in pairs when it needs more, so
	// that of any run that is not very short 20 to 40 are left.
	maxSlices = 40
	// firstShift makes the first slices 65 us long, by powers of two.
	firstShift = 16
	// fewestSlices with arrivals are needed for a verdict.
	fewestSlices = 10

	// surelyGrown is how many deviations a rise must be, of what the steps
	// between slices would add up to by chance. A queue that is just not
	// overloaded goes that far once in some thousand passes.
	surelyGrown = 3.5
	// grownShare is how much of the mean latency a rise must be to make up what
	// the figures say.
	grownShare = 0.5
	// grownWindow is how much of the window a rise must be, which is how much
	// more was offered than done. Less is a system that becomes a little slower.
	grownWindow = 0.002
)

// A timeline is how the latencies of an open loop went over the run, in equal
// slices of time: an operation belongs to the slice in which it was due.
//
// By its latency a backlog is seen as the time that it takes to work it off. Of
// the number under way as much may be owed to slow operations or to a higher
// rate, and that of a run begins at zero; a latency rises for lack of capacity.
type timeline struct {
	begin  time.Duration // on the crew's clock
	shift  uint          // a slice is 1<<shift nanoseconds long
	slices [maxSlices]slice
}

type slice struct {
	n   int64   // operations due in it
	sum float64 // of their latencies, in ns
}

// reset forgets everything and begins anew.
func (c *timeline) reset(begin time.Duration) {
	*c = timeline{begin: begin, shift: firstShift}
}

func (c *timeline) add(due, took time.Duration) {
	i := max(due-c.begin, 0) >> c.shift
	for ; i >= maxSlices; i >>= 1 {
		c.fold()
	}
	c.slices[i].n++
	c.slices[i].sum += float64(took)
}

// fold joins slices in pairs.
func (c *timeline) fold() {
	for i := range maxSlices / 2 {
		a, b := c.slices[2*i], c.slices[2*i+1]
		c.slices[i] = slice{a.n + b.n, a.sum + b.sum}
	}
	clear(c.slices[maxSlices/2:])
	c.shift++
}

// join adds another timeline of the same begin, whose slices may change.
func (c *timeline) join(other *timeline) {
	for c.shift < other.shift {
		c.fold()
	}
	for other.shift < c.shift {
		other.fold()
	}
	for i, s := range other.slices {
		c.slices[i].n += s.n
		c.slices[i].sum += s.sum
	}
}

// A growth is what a timeline says about falling behind.
type growth struct {
	first, last float64 // mean latency of the first and of the last slice, in ns
	mean        float64 // of all
	sure        float64 // the rise in deviations of what chance would do; 0: cannot tell
	faster      bool    // more was offered in the second half than in the first
}

// growth judges the slices that have arrivals.
//
// The backlog of a system that has no capacity to spare wanders at random, and
// may well be larger in the end. What it may reach by chance follows from its
// steps: the sum of k steps without direction deviates by their deviation times
// the root of k. A stable one is driven back and stays below that; one that is
// offered more than it can do has steps in one direction. A stall is a single
// large step, by which the deviation grows as well: no direction.
func (c *timeline) growth() growth {
	list := c.occupied()
	if len(list) < fewestSlices {
		return growth{}
	}
	var all slice
	halves := [2]int64{}
	for i, s := range list {
		all.n += s.n
		all.sum += s.sum
		if 2*i+1 != len(list) { // the one in the middle belongs to neither
			halves[2*i/len(list)] += s.n
		}
	}
	g := growth{first: list[0].mean(), last: list[len(list)-1].mean(), mean: all.mean()}
	// Poisson arrivals differ by their root; a twentieth is not a ramp.
	g.faster = float64(halves[1]-halves[0]) > 3*math.Sqrt(float64(all.n))+float64(all.n)/20
	steps := float64(len(list) - 1)
	drift := (g.last - g.first) / steps
	var squares float64
	for i := range list[1:] {
		d := list[i+1].mean() - list[i].mean() - drift
		squares += d * d
	}
	if g.last > g.first {
		g.sure = drift * math.Sqrt(steps) / max(math.Sqrt(squares/(steps-1)), 1e-3)
	}
	return g
}

// occupied returns the slices with arrivals. What the last one lacks in arrivals
// would make it noisier than the others: below half of a mean, it joins its
// neighbour.
func (c *timeline) occupied() []slice {
	var list []slice
	var n int64
	for _, s := range c.slices {
		if s.n > 0 {
			list = append(list, s)
			n += s.n
		}
	}
	if k := len(list); k > 1 && list[k-1].n*int64(k)*2 < n {
		list[k-2].n += list[k-1].n
		list[k-2].sum += list[k-1].sum
		list = list[:k-1]
	}
	return list
}

func (s slice) mean() float64 { return s.sum / float64(s.n) }

// behind reports whether the operations of a window fell further and further
// behind, where as many as clients can be under way at once. The rise must be
// beyond chance, make up what the figures say, and be more than operations that
// become slower as a store grows: either a share of the window, or a queue that
// all clients together could not hold.
//
// Where the rate itself rises, latencies rise with it, and that is what such a
// run is to show: of that nobody judges here.
func (g growth) behind(offered, clients int, window time.Duration) bool {
	rise := g.last - g.first
	if g.faster || g.sure < surelyGrown || rise < grownShare*g.mean {
		return false
	}
	apart := float64(window) / float64(max(offered, 1)) // arrivals
	return rise >= min(grownWindow*float64(window), float64(clients)*apart)
}
