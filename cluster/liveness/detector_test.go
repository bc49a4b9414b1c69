package liveness

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

// A world is a detector with the nodes that it watches. Everybody is heard in every
// interval who is not silent, and those who are asked to probe do so, if they are not
// silent themselves.
type world struct {
	t       testing.TB
	d       *Detector
	now     time.Duration
	epochs  map[consensus.NodeID]uint64
	silent  map[consensus.NodeID]bool
	reached map[consensus.NodeID]bool // silent, and yet reached by others
	deaf    bool                      // the observer hears no answer of a prober
	probes  bool                      // are shown
	log     []string
}

func newWorld(t testing.TB, nodes int, o Options) *world {
	w := &world{t: t, epochs: map[consensus.NodeID]uint64{}, silent: map[consensus.NodeID]bool{}, reached: map[consensus.NodeID]bool{}}
	var err error
	w.d, err = New(0, o)
	require.NoError(t, err)
	for id := consensus.NodeID(1); id <= consensus.NodeID(nodes); id++ {
		w.epochs[id] = 1
		w.d.Watch(id, 1, Alive, 0)
	}
	return w
}

// pass lets a time pass, tick by tick.
func (w *world) pass(d time.Duration) {
	for end := w.now + d; w.now < end; {
		w.step(50*time.Millisecond, 0)
	}
}

// step ticks after a time, with heartbeats that say so much of their lag.
func (w *world) step(after, lag time.Duration) {
	w.now += after
	for _, id := range w.ids() {
		if !w.silent[id] {
			w.d.Heard(id, w.epochs[id], lag, w.now)
		}
	}
	w.tick()
}

func (w *world) ids() []consensus.NodeID {
	var list []consensus.NodeID
	for id := range w.epochs {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

func (w *world) tick() {
	for _, a := range w.d.Tick(w.now) {
		if a.Kind != Probe || w.probes {
			w.log = append(w.log, fmt.Sprintf("%v %v", w.now, a))
		}
		if a.Kind != Probe {
			continue
		}
		require.NotContains(w.t, a.Via, a.Node)
		w.d.Answered(a.Node, 0, false, w.now)
		for _, via := range a.Via {
			if !w.silent[via] && !w.deaf {
				w.d.Answered(a.Node, via, w.reached[a.Node], w.now)
			}
		}
	}
	require.NoError(w.t, w.d.check())
}

func (w *world) take() string {
	text := strings.Join(w.log, "\n")
	w.log = nil
	if text == "" {
		return "nothing"
	}
	return text
}

// The scripts in testdata are what one observer sees.
//
//	watch nodes=5
//	pass time=1s             everybody who is not silent is heard every 50 ms
//	silent nodes=(2)         not heard any more, nor reached
//	reached nodes=(2)        not heard, and reached by others
//	heard nodes=(2)          well again
//	stall time=400ms         the observer does not run, and then takes heartbeats
//	halt time=400ms          or ticks before it does
//	probes                   are shown from here on
//	lag node=2 time=300ms    a heartbeat that says that it is late, and then none
//	restart node=2 epoch=2   the node is watched under a higher epoch
//	deaf | hearing           no prober's answer arrives
//	old node=2 epoch=1       a heartbeat of that epoch
//	show
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			var w *world
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				if d.Cmd == "watch" {
					var nodes int
					d.ScanArgs(t, "nodes", &nodes)
					w = newWorld(t, nodes, Options{})
					return "ok"
				}
				return w.run(t, d)
			})
		})
	}
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	var nodes []consensus.NodeID
	var text string
	var node, epoch uint64
	for _, a := range d.CmdArgs {
		if a.Key == "nodes" {
			for _, v := range a.Vals {
				var id uint64
				_, err := fmt.Sscan(v, &id)
				require.NoError(t, err)
				nodes = append(nodes, consensus.NodeID(id))
			}
		}
	}
	d.MaybeScanArgs(t, "time", &text)
	d.MaybeScanArgs(t, "node", &node)
	d.MaybeScanArgs(t, "epoch", &epoch)
	length, _ := time.ParseDuration(text)
	id := consensus.NodeID(node)
	switch d.Cmd {
	case "pass":
		w.pass(length)
	case "stall":
		w.step(length, 0)
	case "halt":
		w.now += length
		w.tick()
	case "probes":
		w.probes = true
		return "ok"
	case "lag":
		w.d.Heard(id, w.epochs[id], length, w.now)
		w.silent[id] = true
	case "silent", "reached", "heard":
		for _, id := range nodes {
			w.silent[id], w.reached[id] = d.Cmd != "heard", d.Cmd == "reached"
		}
		return "ok"
	case "deaf", "hearing":
		w.deaf = d.Cmd == "deaf"
		return "ok"
	case "restart":
		w.epochs[id], w.silent[id] = epoch, false
		w.d.Watch(id, epoch, Alive, w.now)
	case "old":
		return fmt.Sprint(w.d.Heard(id, epoch, 0, w.now))
	case "show":
		for _, id := range w.ids() {
			c, phi := w.d.Condition(id, w.now)
			w.log = append(w.log, fmt.Sprintf("%d %v phi=%.1f", id, c, min(phi, 99)))
		}
		w.log = append(w.log, fmt.Sprintf("multiplier %.1f", w.d.Multiplier()))
	default:
		d.Fatalf(t, "unknown command")
	}
	return w.take()
}

// Phi grows with the silence, is 8 where the normal distribution's tail is about
// 1e-8, and stays finite.
func TestPhi(t *testing.T) {
	var v intervals
	last := 0.0
	for silence := time.Duration(0); silence < time.Hour; silence += 7*time.Millisecond + silence/10 {
		phi := v.phi(silence, 50*time.Millisecond, 10*time.Millisecond)
		require.GreaterOrEqual(t, phi, last)
		require.False(t, math.IsInf(phi, 0) || math.IsNaN(phi))
		last = phi
	}
	// P(Z > 5.612) = 1e-8.
	require.InDelta(t, 8, v.phi(50*time.Millisecond+56120*time.Microsecond, 50*time.Millisecond, 10*time.Millisecond), 0.01)
	require.InDelta(t, 0.301, v.phi(50*time.Millisecond, 50*time.Millisecond, 10*time.Millisecond), 0.001)
	near, beyond := v.phi(349999*time.Microsecond, 50*time.Millisecond, 10*time.Millisecond), v.phi(350*time.Millisecond, 50*time.Millisecond, 10*time.Millisecond)
	require.InDelta(t, near, beyond, 0.01, "where the series takes over")
	for range 1000 { // a window is all that is remembered
		v.add(time.Second, 8)
	}
	mean, deviation := v.moments(time.Millisecond, time.Millisecond)
	require.InDelta(t, 1, mean, 1e-9)
	require.InDelta(t, 0.001, deviation, 1e-6)
}

// Ten minutes on a machine that is out of breath: the observer's ticks come late,
// some by seconds, and so do heartbeats, which wait behind each other for a processor.
// Nobody is declared dead; and one who is, is found all the same.
func TestNobodyDiesOfStarvation(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	for round := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, round))
		w := newWorld(t, 20, Options{Seed: seed})
		due := map[consensus.NodeID]time.Duration{}
		late := map[consensus.NodeID]time.Duration{}
		for w.now < 10*time.Minute {
			// The whole process stands still now and then, heavy-tailed: everybody in
			// it is late at once.
			stop := time.Duration(0)
			if rng.IntN(20) == 0 {
				stop = min(3*time.Second, time.Duration(float64(5*time.Millisecond)*math.Pow(rng.Float64(), -1)))
			}
			w.now += 50*time.Millisecond + stop
			for _, id := range w.ids() {
				if due[id] += stop; due[id] > w.now {
					continue // this one waits for its turn
				}
				w.d.Heard(id, 1, late[id], w.now)
				late[id] = stop
				due[id] = w.now
				if rng.IntN(40) == 0 {
					wait := time.Duration(rng.Int64N(int64(150 * time.Millisecond)))
					due[id] += wait
					late[id] = wait
				}
			}
			w.tick()
		}
		for _, line := range w.log {
			require.NotContains(t, line, "dead", "%v", w.log)
		}
		w.log = nil
		w.silent[7] = true
		w.pass(20 * time.Second)
		require.Contains(t, w.take(), "dead 7 epoch=1")
	}
}

// The same calls give the same actions.
func TestDetectorReplays(t *testing.T) {
	play := func() string {
		w := newWorld(t, 9, Options{Seed: 5})
		rng := rand.New(rand.NewPCG(1, 2))
		for range 400 {
			id := consensus.NodeID(1 + rng.IntN(9))
			w.silent[id], w.reached[id] = rng.IntN(3) > 0, rng.IntN(3) == 0
			w.step(time.Duration(rng.Int64N(int64(120*time.Millisecond))), 0)
		}
		return w.take()
	}
	require.Equal(t, play(), play())
}

func TestOptionsAreChecked(t *testing.T) {
	for text, o := range map[string]Options{
		"Interval is -1ns": {Interval: -1}, "Phi is -1": {Phi: -1}, "MaxMultiplier is 0.5": {MaxMultiplier: 0.5}, "Probes is -1": {Probes: -1},
	} {
		_, err := New(0, o)
		require.ErrorContains(t, err, text)
	}
}
