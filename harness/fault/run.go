package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Partitioner can cut the link from one node to another, one way. Cuts of one
// link never overlap: Run counts them.
type Partitioner interface {
	Cut(from, to uint64) error
	Heal(from, to uint64) error
}

// A Crasher can stop a node as a loss of power would, and start it again.
type Crasher interface {
	Crash(node uint64) error
	Restart(node uint64) error
}

// A Pauser can let a node stand still, with all its links and files open, and
// go on.
type Pauser interface {
	Pause(node uint64) error
	Resume(node uint64) error
}

// A DiskSlower can make each flush of a node take longer by delay; zero heals.
// The delay outlasts a crash of the node.
type DiskSlower interface {
	SlowDisk(node uint64, delay time.Duration) error
}

// A ClockSkewer can set a node's wall clock off by offset; zero heals. The
// offset outlasts a crash of the node.
type ClockSkewer interface {
	Skew(node uint64, offset time.Duration) error
}

// An Observer is told what Run does, as it does it. A target may be one.
type Observer interface {
	Began(e Event)
	Ended(e Event)
	Entered(p Phase)
}

// A Phase is a part of a plan.
type Phase string

// The phases, in their order.
const (
	PhaseSafety   Phase = "safety"
	PhaseLiveness Phase = "liveness" // the core is whole
	PhaseHealed   Phase = "healed"   // everything is whole, and Run returns
)

// Supported returns the kinds of fault that target has the interfaces for.
func Supported(target any) []Kind {
	var kinds []Kind
	for _, k := range Kinds() {
		if able(target, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

func able(target any, k Kind) (ok bool) {
	switch k {
	case Partition, OneWay:
		_, ok = target.(Partitioner)
	case Crash:
		_, ok = target.(Crasher)
	case Pause:
		_, ok = target.(Pauser)
	case SlowDisk:
		_, ok = target.(DiskSlower)
	case Skew:
		_, ok = target.(ClockSkewer)
	}
	return ok
}

// Run applies a plan to target and returns when it is over and everything is
// healed. It breaks nothing if the plan is not valid or needs an interface that
// target lacks. When ctx ends or the target returns an error it stops breaking
// things, heals what it broke, and returns the errors of both.
func Run(ctx context.Context, p Plan, target any) error {
	if err := p.Validate(); err != nil {
		return err
	}
	for i, e := range p.Events {
		if !able(target, e.Kind) {
			return fmt.Errorf("fault: event %d (%v): %T does not support it", i, e, target)
		}
	}
	r := &runner{plan: p, target: target, cuts: map[link]int{}, began: time.Now()}
	r.observer, _ = target.(Observer)
	err := r.follow(ctx)
	err = errors.Join(err, r.healAll())
	r.entered(PhaseHealed)
	return err
}

type link struct{ from, to uint64 }

type runner struct {
	plan     Plan
	target   any
	observer Observer // nil if target is none
	began    time.Time

	active []int        // events begun and not ended
	cuts   map[link]int // how many active events cut a link
}

// A step is the start or end of an event, or of a phase.
type step struct {
	at    time.Duration
	order int // among steps of one moment: ends, phases, starts
	event int // -1 for a phase
	phase Phase
}

func (p Plan) steps() []step {
	steps := []step{
		{at: 0, order: 1, event: -1, phase: PhaseSafety},
		{at: p.Safety, order: 1, event: -1, phase: PhaseLiveness},
		{at: p.Safety + p.Liveness, order: 1, event: -1},
	}
	for i, e := range p.Events {
		steps = append(steps, step{at: e.At, order: 2, event: i}, step{at: e.End(), order: 0, event: i})
	}
	slices.SortStableFunc(steps, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order))
	})
	return steps
}

// follow takes the steps of the plan at their times.
func (r *runner) follow(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for _, s := range r.plan.steps() {
		if ctx.Err() != nil {
			return r.stopped(ctx)
		}
		timer.Reset(s.at - time.Since(r.began))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return r.stopped(ctx)
		}
		if err := r.take(s); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) stopped(ctx context.Context) error {
	return fmt.Errorf("fault: plan of seed %d stopped at %v: %w", r.plan.Seed, time.Since(r.began), context.Cause(ctx))
}

func (r *runner) take(s step) error {
	switch {
	case s.event < 0:
		r.entered(s.phase)
		return nil
	case slices.Contains(r.active, s.event):
		return r.end(s.event)
	}
	return r.begin(s.event)
}

func (r *runner) begin(i int) error {
	e := r.plan.Events[i]
	// It counts as active even if it fails: it may have half happened.
	r.active = append(r.active, i)
	if err := r.apply(e); err != nil {
		return fmt.Errorf("fault: event %d (%v): %w", i, e, err)
	}
	if r.observer != nil {
		r.observer.Began(e)
	}
	return nil
}

func (r *runner) end(i int) error {
	e := r.plan.Events[i]
	r.active = slices.DeleteFunc(r.active, func(j int) bool { return j == i })
	if err := r.heal(e); err != nil {
		return fmt.Errorf("fault: healing event %d (%v): %w", i, e, err)
	}
	if r.observer != nil {
		r.observer.Ended(e)
	}
	return nil
}

// healAll ends every active event, the youngest first.
func (r *runner) healAll() error {
	var errs []error
	for len(r.active) > 0 {
		errs = append(errs, r.end(r.active[len(r.active)-1]))
	}
	return errors.Join(errs...)
}

func (r *runner) entered(p Phase) {
	if r.observer != nil && p != "" {
		r.observer.Entered(p)
	}
}

func (r *runner) apply(e Event) error {
	switch e.Kind {
	case Partition, OneWay:
		var errs []error
		for _, l := range r.links(e) {
			if r.cuts[l]++; r.cuts[l] == 1 {
				errs = append(errs, r.target.(Partitioner).Cut(l.from, l.to))
			}
		}
		return errors.Join(errs...)
	case Crash:
		return r.target.(Crasher).Crash(e.Nodes[0])
	case Pause:
		return r.target.(Pauser).Pause(e.Nodes[0])
	case SlowDisk:
		return r.target.(DiskSlower).SlowDisk(e.Nodes[0], e.Amount)
	default: // Validate knows no other kind.
		return r.target.(ClockSkewer).Skew(e.Nodes[0], e.Amount)
	}
}

func (r *runner) heal(e Event) error {
	switch e.Kind {
	case Partition, OneWay:
		var errs []error
		for _, l := range r.links(e) {
			if r.cuts[l]--; r.cuts[l] == 0 {
				errs = append(errs, r.target.(Partitioner).Heal(l.from, l.to))
			}
		}
		return errors.Join(errs...)
	case Crash:
		return r.target.(Crasher).Restart(e.Nodes[0])
	case Pause:
		return r.target.(Pauser).Resume(e.Nodes[0])
	case SlowDisk:
		return r.target.(DiskSlower).SlowDisk(e.Nodes[0], 0)
	default:
		return r.target.(ClockSkewer).Skew(e.Nodes[0], 0)
	}
}

// links returns the links that e cuts.
func (r *runner) links(e Event) []link {
	if e.Kind == OneWay {
		return []link{{e.Nodes[0], e.Nodes[1]}}
	}
	var links []link
	for _, in := range e.Nodes {
		for _, out := range r.plan.Nodes {
			if !slices.Contains(e.Nodes, out) {
				links = append(links, link{in, out}, link{out, in})
			}
		}
	}
	return links
}
