package liveness

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
)

// Options configures a Detector. A zero field selects its default.
type Options struct {
	// Interval is how often nodes send a heartbeat, and how often Tick is called.
	// Default: 50 ms.
	Interval time.Duration
	// Phi is the suspicion at which a silent node is probed. Default: 8.
	Phi float64
	// Probes is how many others are asked to probe a silent node. Default: 3.
	Probes int
	// ProbeTimeout is how long an answer is waited for. Default: 2 Intervals.
	ProbeTimeout time.Duration
	// SuspectFor is how long a suspect may refute it. Default: 8 Intervals.
	SuspectFor time.Duration
	// Grace is how long nobody is declared anything after the detector began.
	// Default: 10 Intervals.
	Grace time.Duration
	// MaxMultiplier bounds how much longer all of these become while the observer is
	// not well. Default: 8.
	MaxMultiplier float64
	// Window is how many intervals between heartbeats are remembered. Default: 64.
	Window int
	// MinDeviation is the least standard deviation that they are taken to have.
	// Default: a quarter of Interval.
	MinDeviation time.Duration
	// Seed draws who probes.
	Seed uint64
	_    struct{}
}

func (o Options) withDefaults() (Options, error) {
	o.Interval = cmp.Or(o.Interval, 50*time.Millisecond)
	o.Phi = cmp.Or(o.Phi, 8)
	o.Probes, o.Window = cmp.Or(o.Probes, 3), cmp.Or(o.Window, 64)
	o.ProbeTimeout = cmp.Or(o.ProbeTimeout, 2*o.Interval)
	o.SuspectFor, o.Grace = cmp.Or(o.SuspectFor, 8*o.Interval), cmp.Or(o.Grace, 10*o.Interval)
	o.MaxMultiplier = cmp.Or(o.MaxMultiplier, 8)
	o.MinDeviation = cmp.Or(o.MinDeviation, o.Interval/4)
	for _, c := range []struct {
		ok   bool
		what string
		got  any
	}{
		{o.Interval > 0, "Interval", o.Interval}, {o.ProbeTimeout > 0, "ProbeTimeout", o.ProbeTimeout},
		{o.SuspectFor > 0, "SuspectFor", o.SuspectFor}, {o.Grace > 0, "Grace", o.Grace},
		{o.MinDeviation > 0, "MinDeviation", o.MinDeviation}, {o.Phi > 0, "Phi", o.Phi},
		{o.Probes > 0, "Probes", o.Probes}, {o.Window > 0, "Window", o.Window},
	} {
		if !c.ok {
			return o, fmt.Errorf("liveness: option %s is %v, expected more than 0", c.what, c.got)
		}
	}
	if o.MaxMultiplier < 1 {
		return o, fmt.Errorf("liveness: option MaxMultiplier is %v, expected 1 or more", o.MaxMultiplier)
	}
	return o, nil
}

// A Condition is what a Detector thinks of a node.
type Condition uint8

// The conditions.
const (
	Alive   Condition = iota
	Unheard           // others reach it
	Suspect
	Dead
)

func (c Condition) String() string {
	if c > Dead {
		return fmt.Sprintf("condition %d", uint8(c))
	}
	return [...]string{"alive", "unheard", "suspect", "dead"}[c]
}

// An ActionKind says what the driver is to do.
type ActionKind uint8

// The kinds of action.
const (
	// Probe: reach the node, by itself and by way of the nodes in Via, and tell the
	// detector with Answered.
	Probe ActionKind = iota
	// DeclareSuspect, DeclareDead, DeclareAlive: have the cluster take it in.
	DeclareSuspect
	DeclareDead
	DeclareAlive
)

func (k ActionKind) String() string {
	if k > DeclareAlive {
		return fmt.Sprintf("action %d", uint8(k))
	}
	return [...]string{"probe", "suspect", "dead", "alive"}[k]
}

// An Action is something to do about a node.
type Action struct {
	Kind  ActionKind
	Node  consensus.NodeID
	Epoch uint64
	Via   []consensus.NodeID
}

func (a Action) String() string {
	if a.Kind == Probe {
		return fmt.Sprintf("probe %d via %v", a.Node, a.Via)
	}
	return fmt.Sprintf("%v %d epoch=%d", a.Kind, a.Node, a.Epoch)
}

// A Detector watches nodes.
type Detector struct {
	o          Options
	rng        *rand.Rand
	nodes      []*watched // by id
	began      time.Duration
	ticked     time.Duration // of the last Tick
	multiplier float64
	ran        bool // Tick was called
}

// watched is what is known of a node.
type watched struct {
	id        consensus.NodeID
	epoch     uint64
	condition Condition
	heard     time.Duration // the last heartbeat, or the beginning
	excused   time.Duration // of the silence since
	intervals intervals
	since     time.Duration // suspect

	probing  bool
	probed   time.Duration // when the probe began
	asked    int           // others that were asked
	answers  int           // of them
	reached  bool          // by any, the observer included
	reachedA time.Duration // last
}

// New returns a detector that watches nobody. now is the driver's monotonic time, as
// in all calls; it must not go back.
func New(now time.Duration, o Options) (*Detector, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Detector{o: o, rng: rand.New(rand.NewPCG(o.Seed, 1)), began: now, ticked: now, multiplier: 1}, nil
}

func (d *Detector) find(id consensus.NodeID) (*watched, bool) {
	i, ok := slices.BinarySearchFunc(d.nodes, id, func(w *watched, id consensus.NodeID) int { return cmp.Compare(w.id, id) })
	if !ok {
		return nil, false
	}
	return d.nodes[i], true
}

// Watch watches a node under an epoch, as what it was declared to be. A node that is
// watched under an epoch as high already stays what it is.
func (d *Detector) Watch(id consensus.NodeID, epoch uint64, c Condition, now time.Duration) {
	w, ok := d.find(id)
	if ok && w.epoch >= epoch {
		return
	}
	if !ok {
		w = new(watched)
		d.nodes = append(d.nodes, w)
		defer slices.SortFunc(d.nodes, func(a, b *watched) int { return cmp.Compare(a.id, b.id) })
	}
	*w = watched{id: id, epoch: epoch, condition: c, heard: now, since: now}
}

// Forget stops watching a node.
func (d *Detector) Forget(id consensus.NodeID) {
	d.nodes = slices.DeleteFunc(d.nodes, func(w *watched) bool { return w.id == id })
}

// Watched returns the nodes that are watched, dead ones too.
func (d *Detector) Watched() []consensus.NodeID {
	var list []consensus.NodeID
	for _, w := range d.nodes {
		list = append(list, w.id)
	}
	return list
}

// Heard takes a heartbeat. lag is how much later than it should have the node sent
// it, by its own clock: the next may be as late. It reports whether the node is
// watched under this epoch and not dead; a driver tells one of which it is not so.
func (d *Detector) Heard(id consensus.NodeID, epoch uint64, lag, now time.Duration) bool {
	w, ok := d.find(id)
	if !ok || w.epoch != epoch || w.condition == Dead {
		return false
	}
	// More is an outage, or a stall that is not known to have been one yet: it says
	// little of how late the node will be as a rule.
	most := time.Duration(d.o.MaxMultiplier * float64(d.o.Interval))
	if silence := now - w.heard - w.excused; silence > 0 && w.condition != Suspect {
		w.intervals.add(min(silence, most), d.o.Window)
	}
	w.excused = min(max(0, lag), most) // not for ever, whatever it says
	w.heard, w.probing = now, false
	return true
}

// Answered takes what came of a probe: from whom, 0 if it was the observer's own, and
// whether the node answered. A prober that does not answer is not reported.
func (d *Detector) Answered(id, via consensus.NodeID, reached bool, now time.Duration) {
	w, ok := d.find(id)
	if !ok || !w.probing {
		return
	}
	if via != 0 {
		w.answers++
	}
	if reached {
		w.reached, w.reachedA = true, now
	}
}

// Condition returns what is thought of a node, and its phi.
func (d *Detector) Condition(id consensus.NodeID, now time.Duration) (Condition, float64) {
	w, ok := d.find(id)
	if !ok {
		return Dead, 0
	}
	return w.condition, d.phi(w, now)
}

// Multiplier is how much longer all patience is, because the observer is not well.
func (d *Detector) Multiplier() float64 { return d.multiplier }

func (d *Detector) phi(w *watched, now time.Duration) float64 {
	silence := float64(now-w.heard-w.excused) / d.multiplier
	return w.intervals.phi(time.Duration(max(0, silence)), d.o.Interval, d.o.MinDeviation)
}

// Tick returns what is to be done, the same for the same calls.
func (d *Detector) Tick(now time.Duration) []Action {
	d.feel(now)
	silent := 0
	for _, w := range d.nodes {
		if d.silent(w, now) {
			silent++
		}
	}
	all := 1
	for _, w := range d.nodes {
		if w.condition != Dead {
			all++
		}
	}
	// Invariants 2 and 3.
	may := now-d.began >= d.o.Grace && 2*silent < all
	var actions []Action
	for _, w := range d.nodes {
		actions = d.judge(actions, w, now, may)
	}
	return actions
}

// feel takes the observer's own pulse. Time that it did not run was nobody's silence.
func (d *Detector) feel(now time.Duration) {
	late := now - d.ticked - d.o.Interval
	d.ticked = now
	if !d.ran {
		d.ran, late = true, 0
	}
	if late <= d.o.Interval/2 {
		if !d.unanswered() {
			d.multiplier = max(1, d.multiplier*0.95)
		}
		return
	}
	d.unwell(float64(late) / float64(d.o.Interval))
	for _, w := range d.nodes {
		w.excused += late
		w.probed += late
		w.since += late
	}
}

// unanswered says whether nobody who was asked to probe some node has answered yet:
// until then it is not known that the observer is well.
func (d *Detector) unanswered() bool {
	return slices.ContainsFunc(d.nodes, func(w *watched) bool { return w.probing && w.asked > 0 && w.answers == 0 })
}

func (d *Detector) unwell(by float64) {
	d.multiplier = min(d.o.MaxMultiplier, d.multiplier+by)
}

func (d *Detector) silent(w *watched, now time.Duration) bool {
	return w.condition != Dead && d.phi(w, now) >= d.o.Phi && !(w.condition == Unheard || w.reached && w.probing)
}

func (d *Detector) stretched(t time.Duration) time.Duration {
	return time.Duration(float64(t) * d.multiplier)
}

// judge follows one node.
func (d *Detector) judge(actions []Action, w *watched, now time.Duration, may bool) []Action {
	if w.condition == Dead {
		return actions
	}
	if d.phi(w, now) < d.o.Phi {
		w.probing = false
		if was := w.condition; was != Alive {
			w.condition = Alive
			if was == Suspect {
				actions = append(actions, Action{Kind: DeclareAlive, Node: w.id, Epoch: w.epoch})
			}
		}
		return actions
	}
	if w.probing {
		if actions = d.judgeProbe(actions, w, now, may); w.probing {
			return actions
		}
	}
	if w.condition == Suspect && may && now-w.since >= d.stretched(d.o.SuspectFor) {
		w.condition = Dead
		return append(actions, Action{Kind: DeclareDead, Node: w.id, Epoch: w.epoch})
	}
	if w.condition == Unheard && now-w.reachedA < d.o.ProbeTimeout {
		return actions // it was reached a moment ago
	}
	return append(actions, d.probe(w, now))
}

// judgeProbe ends a probe that was answered, or waited for for long enough.
func (d *Detector) judgeProbe(actions []Action, w *watched, now time.Duration, may bool) []Action {
	switch {
	case w.reached:
		w.probing = false
		if w.condition == Suspect {
			actions = append(actions, Action{Kind: DeclareAlive, Node: w.id, Epoch: w.epoch})
		}
		w.condition = Unheard
	case now-w.probed < d.stretched(d.o.ProbeTimeout):
	case w.asked > 0 && w.answers == 0:
		// Not even those who were asked: it may be us.
		w.probing = false
		d.unwell(1)
		if d.multiplier < d.o.MaxMultiplier {
			break
		}
		fallthrough
	default:
		w.probing = false
		if w.condition != Suspect && may {
			w.condition, w.since = Suspect, now
			actions = append(actions, Action{Kind: DeclareSuspect, Node: w.id, Epoch: w.epoch})
		}
	}
	return actions
}

// probe begins a probe by way of some that are alive.
func (d *Detector) probe(w *watched, now time.Duration) Action {
	var via []consensus.NodeID
	for _, o := range d.nodes {
		if o != w && o.condition == Alive && d.phi(o, now) < d.o.Phi {
			via = append(via, o.id)
		}
	}
	d.rng.Shuffle(len(via), func(i, j int) { via[i], via[j] = via[j], via[i] })
	via = via[:min(len(via), d.o.Probes)]
	w.probing, w.probed, w.asked, w.answers, w.reached = true, now, len(via), 0, false
	return Action{Kind: Probe, Node: w.id, Epoch: w.epoch, Via: via}
}

// check returns an error that names the first invariant that is broken.
func (d *Detector) check() error {
	if d.multiplier < 1 || d.multiplier > d.o.MaxMultiplier {
		return fmt.Errorf("liveness: multiplier %v", d.multiplier)
	}
	for i, w := range d.nodes {
		switch {
		case i > 0 && d.nodes[i-1].id >= w.id:
			return fmt.Errorf("liveness: node %d behind %d", w.id, d.nodes[i-1].id)
		case w.excused < 0 || w.condition > Dead:
			return fmt.Errorf("liveness: node %d %v, %v excused", w.id, w.condition, w.excused)
		case w.condition == Dead && w.probing:
			return fmt.Errorf("liveness: node %d is dead and probed", w.id)
		}
	}
	return nil
}
