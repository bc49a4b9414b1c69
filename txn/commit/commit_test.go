package commit

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

func TestPlansThatAreRefused(t *testing.T) {
	for _, parts := range [][][]string{nil, {{"b"}}, {{"a"}, {}}, {{"a"}, {"a"}}} {
		p := plan(1, OneRound, false, 10, a)
		p.Parts = parts
		_, err := NewCoordinator(p)
		require.Error(t, err, "%v", parts)
	}
}

// happy commits a transaction at two participants, whose answers are given.
func happy(t *testing.T, p Plan, prepared, resolved, forgotten, decided Reply) *Coordinator {
	c, err := NewCoordinator(p)
	if err != nil {
		t.Fatal(err)
	}
	c.Step(Input{Kind: Begin})
	c.Step(Input{Kind: Got, Part: 0, Reply: prepared})
	c.Step(Input{Kind: Got, Part: 1, Reply: prepared})
	c.Step(Input{Kind: Got, Part: 0, Reply: decided})
	c.Step(Input{Kind: Got, Part: 1, Reply: resolved})
	c.Step(Input{Kind: Got, Part: 0, Reply: forgotten})
	return c
}

// A coordinator allocates itself and five requests for two participants.
func TestHappyPathAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := plan(1, OneRound, false, 10, a, b)
	done := Outcome{Status: Committed, TS: 10}
	var prepared, resolved, forgotten, decided Reply = PrepareReply{TS: 10}, ResolveReply{Keys: b}, ForgetReply{}, DecideReply{Outcome: done}
	c := happy(t, p, prepared, resolved, forgotten, decided)
	require.Equal(t, finished, c.phase)
	require.Equal(t, done, c.Outcome())
	got := testing.AllocsPerRun(100, func() { happy(t, p, prepared, resolved, forgotten, decided) })
	require.LessOrEqual(t, got, 6.0)
}

func TestUnknownIsSentAgain(t *testing.T) {
	c, err := NewCoordinator(plan(1, TwoPhase, false, 10, a, b))
	require.NoError(t, err)
	begun := c.Step(Input{Kind: Begin})
	require.Len(t, begun, 2)
	want := begun[1]
	require.Equal(t, []Output{want}, c.Step(Input{Kind: Unknown, Part: 1}))
	c.Step(Input{Kind: Got, Part: 1, Reply: PrepareReply{TS: 10}})
	require.Empty(t, c.Step(Input{Kind: Unknown, Part: 1}))
	require.Equal(t, Outcome{}, c.Outcome())
}

func TestAnchorThatGoesBackOnItsWordPanics(t *testing.T) {
	c, err := NewCoordinator(plan(1, OneRound, false, 10, a, b))
	require.NoError(t, err)
	c.Step(Input{Kind: Begin})
	for i := range 2 {
		c.Step(Input{Kind: Got, Part: i, Reply: PrepareReply{TS: 10}})
	}
	for _, o := range []Outcome{{Status: Aborted}, {Status: Staging}, {Status: Committed, TS: 11}} {
		require.Panics(t, func() { fork(c).Step(Input{Kind: Got, Reply: DecideReply{Outcome: o}}) }, "%v", o)
	}
}

// A recovery that knows no key learns them from the record.
func TestRecoveryFindsKeysInRecord(t *testing.T) {
	r := NewRecovery(plan(1, TwoPhase, false, 10, a, b).Txn, Hint{})
	r.Step(Input{Kind: Begin})
	out := r.Step(Input{Kind: Got, Reply: QueryReply{Record: Record{Status: Committed, TS: 10, Keys: []string{"b", "a"}}}})
	require.Equal(t, Outcome{Status: Committed, TS: 10}, r.Outcome())
	require.Len(t, out, 2)
	require.Equal(t, []string{"a", "b"}, out[1].Request.(Resolve).Keys)
	// Shards answer one by one, and only who has not is asked again.
	require.Empty(t, r.Step(Input{Kind: Got, Reply: ResolveReply{Keys: []string{"b"}}}))
	require.Equal(t, "settling committed ts=0.000000+10 a b:answered", r.String())
	require.Equal(t, a, r.Step(Input{Kind: Retry})[0].Request.(Resolve).Keys)
	require.IsType(t, Forget{}, r.Step(Input{Kind: Got, Reply: ResolveReply{Keys: a}})[0].Request)
	require.Equal(t, Finished, r.Step(Input{Kind: Got, Reply: ForgetReply{}})[0].Kind)
	require.Empty(t, r.Step(Input{Kind: Retry}))
}

// What a shard has none of is not in an effect, and the keys of one that has all are
// those of the request.
func TestEffectsAreOfSomeKeys(t *testing.T) {
	m := Prepare{Txn: plan(1, TwoPhase, false, 10, a).Txn, Keys: []string{"a", "b", "c"}, TS: 10}
	e, r := Local{Keys: []Key{{}, {Intent: 12}, {}}}.Prepare(m, 11)
	require.Equal(t, Effect{Lay: []string{"a", "c"}, LayTS: 11}, e)
	require.Equal(t, PrepareReply{TS: 12}, r)
	e, r = Local{Keys: make([]Key, 3)}.Prepare(m, 9)
	require.Equal(t, Effect{Lay: m.Keys, LayTS: 10}, e)
	require.Equal(t, PrepareReply{TS: 10}, r)
	e, _ = Local{Keys: []Key{{Intent: 12}, {Applied: 9}, {Buried: true}}}.Resolve(Resolve{Txn: m.Txn, Keys: m.Keys})
	require.Equal(t, Effect{Drop: a}, e, "the anchor gets no tombstone, nor does what was applied")
	require.True(t, Effect{}.Empty())
	require.False(t, Effect{Forget: true}.Empty())
}

func TestNamesOfWhatThereIsNot(t *testing.T) {
	require.Equal(t, "status 9", Status(9).String())
	require.Equal(t, "reason 99", Reason(99).String())
	require.Equal(t, "protocol 9", Protocol(9).String())
	require.Equal(t, "input 99", Input{Kind: 99}.String())
	require.Equal(t, "output 99", Output{Kind: 99}.String())
	require.Equal(t, "aborted (rollback)", Outcome{Status: Aborted, Reason: Rollback}.String())
	require.Equal(t, "committed ts=0.000000+7", Outcome{Status: Committed, TS: hlc.Timestamp(7)}.String())
}
