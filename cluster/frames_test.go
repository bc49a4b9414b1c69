package cluster

import (
	"maps"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/harness"
)

// A gauge is within a step of what it was made of, over all that loads can be.
func TestGauge(t *testing.T) {
	require.Zero(t, gaugeOf(0))
	require.Zero(t, gaugeOf(0).value())
	require.Zero(t, gaugeOf(math.NaN()))
	require.Equal(t, 1.0, gaugeOf(1).value())
	for v := 1.0; v < 1e15; v *= 1.7 {
		require.InEpsilon(t, v, gaugeOf(v).value(), 0.05)
	}
	require.LessOrEqual(t, gaugeOf(math.Inf(1)), gauge(1000))
}

// Whatever loads do, and whichever frames and answers are lost, what the other side
// has is near what is: and a side that lost all is sent all.
func TestLoadFrames(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	m := &meter{}
	table := &loadTable{}
	now := map[meta.ShardID]shardLoad{}
	loads := func() map[meta.ShardID]shardLoad { return now }
	sent, bytes := 0, 0
	for round := range 2000 {
		for range r.IntN(3) {
			id := meta.ShardID(1 + r.IntN(50))
			if r.IntN(4) == 0 {
				delete(now, id)
			} else {
				now[id] = shardLoad{leads: r.IntN(2) == 0, ops: gauge(r.IntN(200)), cpu: gauge(r.IntN(200)), bytes: gauge(r.IntN(200))}
			}
		}
		m.news = true
		f := m.frameOf(9, loads)
		if f == nil {
			continue
		}
		require.Nil(t, m.frameOf(9, loads), "one is under way")
		if r.IntN(10) == 0 {
			m.sent(9, f, loadsNone) // it was lost
			continue
		}
		b := f.append(nil)
		got, err := readLoadFrame(b)
		require.NoError(t, err)
		sent, bytes = sent+1, bytes+len(b)
		if r.IntN(50) == 0 {
			table.forget()
		}
		verdict := table.take(5, 1, got)
		if r.IntN(10) == 0 {
			verdict = loadsNone // the answer was lost
		}
		m.sent(9, f, verdict)
		if verdict != loadsTaken {
			continue
		}
		require.Len(t, table.nodes[5].shards, len(now), "round %d", round)
		for id, l := range now {
			require.True(t, l.near(table.nodes[5].shards[id]), "shard %d in round %d", id, round)
		}
	}
	require.Less(t, bytes/sent, 150, "a frame holds what has changed")
	require.Equal(t, byte(loadsLost), table.take(5, 2, &loadFrame{from: 3, number: 4}), "of another epoch")

	m.news = true
	require.NotNil(t, m.frameOf(8, loads), "another leader has heard nothing")
	require.Zero(t, m.number)
	// What hardly changes is not sent again.
	m.sent(8, &loadFrame{number: 1, next: maps.Clone(now)}, loadsTaken)
	for id, l := range now {
		if l.cpu > 0 { // none and some are not the same
			l.cpu++
		}
		now[id] = l
	}
	m.news = true
	require.Nil(t, m.frameOf(8, loads))
}

func TestMalformedLoadFrames(t *testing.T) {
	f := &loadFrame{from: 1, number: 2, changed: map[meta.ShardID]shardLoad{7: {leads: true, ops: 3}}, gone: []meta.ShardID{4}}
	whole := beat{epoch: 3, lag: time.Second, loads: f}.encode()
	b, err := decodeBeat(whole)
	require.NoError(t, err)
	require.Equal(t, f, b.loads)
	for i := 4; i < len(whole); i++ {
		if b, err := decodeBeat(whole[:i]); err == nil {
			require.Nil(t, b.loads, "cut at %d", i)
		}
	}
	_, err = decodeBeat(append(whole, 0))
	require.Error(t, err)
	f.number = 1
	_, err = readLoadFrame(f.append(nil))
	require.Error(t, err, "it leads nowhere")
}
