package harness

import (
	"math/rand/v2"
	"time"

	"github.com/phantomdb/phantomdb/harness/load"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// A KindResult is what a run measured of one kind of operation in its mix.
type KindResult struct {
	Name    string
	Ops     int   // measured operations, failed ones included
	Errors  int64 // failed ones among them
	Latency *measure.Histogram
}

// kindBooks are what a member books for one kind.
type kindBooks struct {
	recorder    *measure.Recorder
	ops, errors int64
}

func (k *kindBooks) account(err error, took time.Duration) (slow bool) {
	k.ops++
	if err == nil {
		return k.recorder.Record(took)
	}
	k.errors++
	k.recorder.Fail()
	return false
}

// openKinds gives a member books for each kind, and a random source that
// depends on seed and on the member, as its others do.
func (m *member) openKinds(seed uint64, pools []*measure.Pool) {
	if len(pools) == 0 {
		return
	}
	m.chance = rand.New(rand.NewPCG(^seed, uint64(m.ID)))
	for _, p := range pools {
		m.kinds = append(m.kinds, kindBooks{recorder: p.Recorder()})
	}
}

// choose draws the kind of the next operation.
func (m *member) choose() {
	if m.kinds != nil {
		m.kind = m.mix.Pick(m.chance)
		m.Kind = m.kind
	}
}

func (m *member) forgetKinds() {
	for i := range m.kinds {
		k := &m.kinds[i]
		k.recorder.Discard()
		k.ops, k.errors = 0, 0
	}
}

// kindResults adds up what the members booked, in the order of the mix.
func (c *crew) kindResults() []KindResult {
	var list []KindResult
	for i, pool := range c.kinds {
		k := KindResult{Name: c.members[0].mix.Kind(i).Name, Latency: pool.Histogram()}
		for _, m := range c.members {
			k.Ops += int(m.kinds[i].ops)
			k.Errors += m.kinds[i].errors
		}
		list = append(list, k)
	}
	return list
}

// tracks are the pools of a run for whoever follows it.
func (c *crew) tracks(mix load.Mix) []track {
	list := []track{{pool: &c.pool}}
	for i, p := range c.kinds {
		list = append(list, track{tag: mix.Kind(i).Name, pool: p})
	}
	return list
}
