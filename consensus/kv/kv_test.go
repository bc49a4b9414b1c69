package kv_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// open returns an open machine.
func open(t testing.TB, o kv.Options) *kv.Machine {
	t.Helper()
	m, err := kv.New(o)
	require.NoError(t, err)
	_, err = m.Open()
	require.NoError(t, err)
	return m
}

// apply applies one batch of commands behind the machine's index.
func apply(t testing.TB, m *kv.Machine, commands ...[]byte) []kv.Outcome {
	t.Helper()
	index, _ := m.Position()
	results := make([]consensus.Result, len(commands))
	require.NoError(t, m.Apply(&consensus.Batch{Index: index + 1, Term: 1, Commands: commands}, results))
	outcomes := make([]kv.Outcome, len(results))
	for i, r := range results {
		var err error
		outcomes[i], err = kv.ParseOutcome(r.Data)
		require.NoError(t, err)
	}
	return outcomes
}

func TestCommandsAnswer(t *testing.T) {
	m := open(t, kv.Options{})
	a, one, two := []byte("a"), []byte("one"), []byte("two")
	for _, step := range []struct {
		name    string
		command []byte
		want    kv.Outcome
		value   []byte // of a, afterwards
	}{
		{"put", kv.EncodePut(nil, a, one), kv.Outcome{Done: true}, one},
		{"put again", kv.EncodePut(nil, a, two), kv.Outcome{Done: true, Found: true}, two},
		{"swap of another value", kv.EncodeCompareAndSwap(nil, a, one, a), kv.Outcome{Found: true, Value: two}, two},
		{"swap of absence", kv.EncodeCompareAndSwap(nil, a, nil, a), kv.Outcome{Found: true, Value: two}, two},
		{"swap", kv.EncodeCompareAndSwap(nil, a, two, one), kv.Outcome{Done: true, Found: true}, one},
		{"add to no counter", kv.EncodeAdd(nil, a, 1), kv.Outcome{Found: true, Value: []byte{}}, one},
		{"delete", kv.EncodeDelete(nil, a), kv.Outcome{Done: true, Found: true}, nil},
		{"delete again", kv.EncodeDelete(nil, a), kv.Outcome{}, nil},
		{"swap of a value that is gone", kv.EncodeCompareAndSwap(nil, a, one, two), kv.Outcome{}, nil},
		{"nop", kv.EncodeNop(nil, a), kv.Outcome{Done: true}, nil},
		{"add", kv.EncodeAdd(nil, a, -3), kv.Outcome{Done: true, Counter: -3}, []byte{0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"add again", kv.EncodeAdd(nil, a, 5), kv.Outcome{Done: true, Found: true, Counter: 2}, []byte{2, 0, 0, 0, 0, 0, 0, 0}},
		{"swap in", kv.EncodeCompareAndSwap(nil, []byte("b"), nil, one), kv.Outcome{Done: true}, []byte{2, 0, 0, 0, 0, 0, 0, 0}},
	} {
		got := apply(t, m, step.command)[0]
		require.Equal(t, step.want, got, step.name)
		value, ok := m.Get(a)
		require.Equal(t, step.value != nil, ok, step.name)
		require.Equal(t, step.value, value, step.name)
	}
	require.Equal(t, 2, m.Len())
	require.EqualValues(t, len("a")+8+len("b")+len("one"), m.SizeBytes())
}
