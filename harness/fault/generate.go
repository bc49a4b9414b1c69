package fault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Options shapes a generated plan. A zero field selects its default.
type Options struct {
	// Seed selects the plan. Zero is a seed like any other.
	Seed uint64
	// Nodes are the nodes that may break, at least one, each once. Required.
	Nodes []uint64
	// Kinds are the kinds of fault to draw from. Default: Kinds(). Give
	// Supported(target) for what a target can do.
	Kinds []Kind
	// Safety is the length of the phase of faults. Default: 10 s.
	Safety time.Duration
	// Liveness is the length of the phase in which a core is whole. Default:
	// 5 s.
	Liveness time.Duration
	// MaxDown bounds how many nodes are crashed, paused or on the smaller side
	// of a partition at once, in both phases. A negative value allows any
	// number in the safety phase. Default: a minority, (len(Nodes)-1)/2.
	MaxDown int
	// MeanGap is the mean time from the start of one fault to the start of the
	// next. Default: Safety/20.
	MeanGap time.Duration
	// MinFor and MaxFor bound the length of a fault. Default: MeanGap/2 and
	// 3*MeanGap.
	MinFor, MaxFor time.Duration
	// MaxDiskDelay bounds how much longer a flush takes. Default: 20 ms.
	MaxDiskDelay time.Duration
	// MaxSkew bounds how far a clock is off, either way. Default: 100 ms.
	MaxSkew time.Duration
	_       struct{}
}

// maxEvents bounds a plan: beyond it the faults, not the system, would be what
// a test measures.
const maxEvents = 10_000

func (o *Options) validate() error {
	if len(o.Nodes) == 0 {
		return fmt.Errorf("fault: options: no nodes")
	}
	for i, n := range o.Nodes {
		if slices.Contains(o.Nodes[:i], n) {
			return fmt.Errorf("fault: options: node %d is named twice", n)
		}
	}
	if o.Kinds == nil {
		o.Kinds = Kinds()
	}
	for _, k := range o.Kinds {
		if !slices.Contains(Kinds(), k) {
			return fmt.Errorf("fault: options: kind %q: want one of %v", k, Kinds())
		}
	}
	if o.MaxDown == 0 {
		o.MaxDown = (len(o.Nodes) - 1) / 2
	}
	return o.validateTimes()
}

func (o *Options) validateTimes() error {
	or := func(d *time.Duration, byDefault time.Duration) {
		if *d == 0 {
			*d = byDefault
		}
	}
	or(&o.Safety, 10*time.Second)
	or(&o.Liveness, 5*time.Second)
	or(&o.MeanGap, o.Safety/20)
	or(&o.MinFor, o.MeanGap/2)
	or(&o.MaxFor, max(3*o.MeanGap, o.MinFor))
	or(&o.MaxDiskDelay, 20*time.Millisecond)
	or(&o.MaxSkew, 100*time.Millisecond)
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"Safety", o.Safety}, {"Liveness", o.Liveness}, {"MeanGap", o.MeanGap}, {"MinFor", o.MinFor},
		{"MaxFor", o.MaxFor}, {"MaxDiskDelay", o.MaxDiskDelay}, {"MaxSkew", o.MaxSkew},
	} {
		if d.value <= 0 {
			return fmt.Errorf("fault: options: %s %v: want a positive duration", d.name, d.value)
		}
	}
	if o.MaxFor < o.MinFor {
		return fmt.Errorf("fault: options: MaxFor %v: want at least MinFor %v", o.MaxFor, o.MinFor)
	}
	if n := o.Safety / o.MeanGap; n > maxEvents {
		return fmt.Errorf("fault: options: a fault every %v for %v: want at most %d faults", o.MeanGap, o.Safety, maxEvents)
	}
	return nil
}

// Generate makes the plan of a seed. Two calls with equal options return equal
// plans.
func Generate(o Options) (Plan, error) {
	if err := o.validate(); err != nil {
		return Plan{}, err
	}
	g := generator{Options: o, rng: rand.New(rand.NewPCG(o.Seed, 0x6661756c74))} // "fault"
	p := Plan{Seed: o.Seed, Nodes: slices.Clone(o.Nodes), Safety: o.Safety, Liveness: o.Liveness}
	for at := g.between(0, g.MeanGap); at < g.Safety; at += g.between(g.MeanGap/2, g.MeanGap*3/2) {
		if e, ok := g.draw(p, at); ok {
			p.Events = append(p.Events, e)
		}
	}
	p.Core = g.core()
	p.Events = append(p.Events, g.late(p)...)
	if err := p.Validate(); err != nil {
		// Every draw was checked, so this is a mistake here and not a bad input.
		panic(err)
	}
	return p, nil
}

type generator struct {
	Options
	rng *rand.Rand
}

// between returns a duration in [low, high], in whole milliseconds where that
// leaves a choice: plans are read by people.
func (g *generator) between(low, high time.Duration) time.Duration {
	d := low
	if high > low {
		d += time.Duration(g.rng.Int64N(int64(high-low) + 1))
	}
	if r := d.Round(time.Millisecond); r >= low && r <= high {
		return r
	}
	return d
}

// draw picks a fault that begins at a moment. It gives up after a few tries
// when the plan is full there.
func (g *generator) draw(p Plan, at time.Duration) (Event, bool) {
	for range 8 {
		if len(g.Kinds) == 0 {
			break
		}
		length := min(g.between(g.MinFor, g.MaxFor), g.Safety-at)
		e, ok := g.event(g.Kinds[g.rng.IntN(len(g.Kinds))], at, length, g.Nodes)
		if !ok {
			continue
		}
		next := p
		next.Events = append(slices.Clip(p.Events), e)
		if next.validateTail() != nil || g.MaxDown >= 0 && next.crowd(e) > g.MaxDown {
			continue
		}
		return e, true
	}
	return Event{}, false
}

// event makes a fault of a kind among the nodes given.
func (g *generator) event(k Kind, at, length time.Duration, nodes []uint64) (Event, bool) {
	e := Event{Kind: k, At: at, For: length}
	pick := g.rng.Perm(len(nodes))
	take := 1
	switch k {
	case OneWay:
		take = 2
	case Partition:
		// The smaller side: a majority that is cut from a minority is the same
		// cut seen from the other side.
		take = 1 + g.rng.IntN(max(len(g.Nodes)/2, 1))
	case SlowDisk:
		e.Amount = g.between(min(time.Millisecond, g.MaxDiskDelay), g.MaxDiskDelay)
	case Skew:
		e.Amount = g.between(min(time.Millisecond, g.MaxSkew), g.MaxSkew)
		if g.rng.IntN(2) == 0 {
			e.Amount = -e.Amount
		}
	}
	if take > len(nodes) || k == Partition && take >= len(g.Nodes) {
		return Event{}, false
	}
	for _, i := range pick[:take] {
		e.Nodes = append(e.Nodes, nodes[i])
	}
	return e, true
}

// core picks the smallest majority.
func (g *generator) core() []uint64 {
	var core []uint64
	for _, i := range g.rng.Perm(len(g.Nodes))[:len(g.Nodes)/2+1] {
		core = append(core, g.Nodes[i])
	}
	slices.Sort(core)
	return core
}

// late breaks some of the nodes outside the core for the whole of the liveness
// phase.
func (g *generator) late(p Plan) []Event {
	var events []Event
	down := 0
	for _, n := range g.Nodes {
		if slices.Contains(p.Core, n) || len(g.Kinds) == 0 || g.rng.IntN(2) == 0 {
			continue
		}
		e, ok := g.event(g.Kinds[g.rng.IntN(len(g.Kinds))], g.Safety, g.Liveness, []uint64{n})
		if !ok {
			continue
		}
		if e.down() {
			if down++; g.MaxDown >= 0 && down > g.MaxDown {
				break
			}
		}
		events = append(events, e)
	}
	return events
}

// validateTail checks the last event against those before it.
func (p Plan) validateTail() error {
	e := p.Events[len(p.Events)-1]
	if err := p.validateEvent(e); err != nil {
		return err
	}
	if e.Kind == Partition || e.Kind == OneWay {
		return nil
	}
	for _, o := range p.Events[:len(p.Events)-1] {
		if o.Kind != Partition && o.Kind != OneWay && o.slot() == e.slot() && e.At < o.End() {
			return fmt.Errorf("node %d has such a fault until %v", e.Nodes[0], o.End())
		}
	}
	return nil
}

// crowd returns how many nodes are down while e, the last event, begins. Later
// events begin later, so it is the largest number during e so far.
func (p Plan) crowd(e Event) int { return len(downAt(p.Events, e.At)) }
