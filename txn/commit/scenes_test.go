package commit

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

var large = flag.Bool("large", false, "explore the large scenes too: half an hour and 16 GB")

func plan(seq uint64, p Protocol, floating bool, ts hlc.Timestamp, parts ...[]string) Plan {
	return Plan{
		Txn:      id.Txn{Key: id.Key{Node: seq, Epoch: 1, Seq: seq, Start: hlc.Timestamp(seq)}, Anchor: parts[0][0]},
		Protocol: p, Floating: floating, TS: ts, Parts: parts,
	}
}

// The keys of the scenes, one to a shard.
var a, b, c = []string{"a"}, []string{"b"}, []string{"c"}

// alone is a scene of one transaction that writes a and b.
func alone(name string, p Protocol, floating bool, recoveries int, limits budget) *scene {
	return &scene{
		name: name, txns: []Plan{plan(1, p, floating, 10, a, b)}, shards: [][]string{a, b},
		recoveries: recoveries, together: recoveries, limits: limits,
	}
}

// wide is one that writes two keys in the shard of the anchor.
func wide(name string, p Protocol, floating bool, limits budget) *scene {
	both := []string{"a", "b"}
	return &scene{
		name: name, txns: []Plan{plan(1, p, floating, 10, both, c)}, shards: [][]string{both, c},
		recoveries: 1, together: 1, limits: limits,
	}
}

// three is one that writes in three shards.
func three(name string, p Protocol, floating bool, limits budget) *scene {
	return &scene{
		name: name, txns: []Plan{plan(1, p, floating, 10, a, b, c)}, shards: [][]string{a, b, c},
		recoveries: 1, together: 1, limits: limits,
	}
}

// crossed is one of two transactions that want the same keys, each what the other has
// first.
func crossed(p, q Protocol, floating bool, limits budget) *scene {
	return &scene{
		name: "crossed", txns: []Plan{plan(1, p, floating, 10, a, b), plan(2, q, floating, 12, b, a)},
		shards: [][]string{a, b}, recoveries: 1, together: 1, limits: limits,
	}
}

// chained is one of two transactions that want one key both, and one each.
func chained(p, q Protocol, floating bool, limits budget) *scene {
	return &scene{
		name: "chained", txns: []Plan{plan(1, p, floating, 10, a, b), plan(2, q, floating, 12, b, c)},
		shards: [][]string{a, b, c}, recoveries: 1, together: 1, limits: limits,
	}
}

// size says how much is explored.
type size uint8

const (
	brief size = iota // in short tests, and under the race detector, which finds nothing here
	usual
	huge // with -large
)

func scenes(s size) []*scene {
	var list []*scene
	for _, v := range []struct {
		p        Protocol
		floating bool
	}{{OneRound, false}, {OneRound, true}, {TwoPhase, false}, {TwoPhase, true}} {
		list = append(list,
			alone("accidents", v.p, v.floating, 1, budget{push: 1, crash: 1, lose: s.up(1), giveUp: s.up(1)}),
			alone("unaided", v.p, v.floating, 0, budget{push: 1, lose: 1 + s.up(1), double: s.up(1), giveUp: 1, wound: 1}),
			alone("doubles", v.p, v.floating, 1, budget{push: 1, double: 1 + s.more(1), crash: s.up(1)}),
		)
		if v.floating && s != huge {
			continue // what floats differs from what does not only when it is pushed
		}
		list = append(list,
			alone("aborts", v.p, v.floating, 1, budget{giveUp: 1, wound: 1, double: s.up(1), crash: s.more(1), push: s.more(1)}),
			alone("rivals", v.p, v.floating, 1+int(s.up(1)), budget{crash: s.up(1), push: s.more(1), double: s.more(1)}),
			alone("fences", v.p, v.floating, 1, budget{fence: 2, double: s.up(1), push: s.more(1), giveUp: s.more(1)}),
			alone("window", v.p, v.floating, 1, budget{move: 2, double: s.up(1), push: s.more(1), giveUp: s.more(1)}),
			wide("split", v.p, v.floating, budget{split: 1, crash: s.up(1), double: s.more(1), push: s.more(1)}),
		)
		if s == brief {
			continue
		}
		list = append(list,
			three("three", v.p, v.floating, budget{push: s.more(1), crash: s.more(1)}),
			crossed(v.p, v.p, v.floating, budget{push: s.more(1), crash: s.more(1)}),
			chained(v.p, v.p, v.floating, budget{push: s.more(1), crash: s.more(1)}),
		)
	}
	if s != brief {
		list = append(list, crossed(OneRound, TwoPhase, false, budget{push: s.more(1)}))
	}
	for _, p := range []Protocol{OneRound, TwoPhase} {
		polite := chained(p, OneRound, false, budget{lose: 1, push: 1})
		polite.name, polite.together = "polite", 0
		list = append(list, polite)
	}
	waiting := chained(OneRound, TwoPhase, false, budget{crash: 1 + s.up(1), push: s.up(1), double: s.more(1)})
	waiting.name, waiting.patient, waiting.together = "patience", true, 2
	return append(list, waiting)
}

// protocols names those of all transactions.
func (sc *scene) protocols() string {
	name := sc.txns[0].Protocol.String()
	if len(sc.txns) > 1 && sc.txns[1].Protocol != sc.txns[0].Protocol {
		name += "+" + sc.txns[1].Protocol.String()
	}
	return name
}

// up is n unless it is to be brief, and more is n if there is all the time in the world.
func (s size) up(n uint8) uint8   { return n * min(1, uint8(s)) }
func (s size) more(n uint8) uint8 { return n * (uint8(s) / 2) }

// TestExplore visits all states of the scenes, in every order of what can happen. By
// default these are small; go test -large takes longer.
func TestExplore(t *testing.T) {
	s, limit := usual, 3_000_000
	switch {
	case *large:
		s, limit = huge, 20_000_000
	case testing.Short() || raceEnabled:
		s = brief
	}
	states, began := 0, time.Now()
	for _, sc := range scenes(s) {
		name := fmt.Sprintf("%s/%v/floating=%t", sc.name, sc.protocols(), sc.txns[0].Floating)
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			r := explore(sc, limit)
			t.Logf("%v, %.2f s", r, time.Since(start).Seconds())
			states += r.states
			require.NoError(t, r.err)
		})
	}
	t.Logf("%d states in all, %.1f s", states, time.Since(began).Seconds())
}
