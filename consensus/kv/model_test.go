package kv_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// model is the slow and obvious machine.
type model struct {
	index, term uint64
	data, rows  map[string]string
}

func newModel() model { return model{data: map[string]string{}, rows: map[string]string{}} }

func (m model) clone() model {
	m.data, m.rows = maps.Clone(m.data), maps.Clone(m.rows)
	return m
}

// pairs lists a map in the order of its keys.
func pairs(of map[string]string) (list [][2]string) {
	for _, key := range slices.Sorted(maps.Keys(of)) {
		list = append(list, [2]string{key, of[key]})
	}
	return list
}

// requireRows compares a position with the model's.
func (m model) requireRows(t testing.TB, s consensus.State) {
	t.Helper()
	require.Equal(t, [2]uint64{m.index, m.term}, [2]uint64{s.Index, s.Term})
	var rows [][2]string
	for _, row := range s.Rows {
		rows = append(rows, [2]string{string(row.Key), string(row.Value)})
	}
	require.Equal(t, pairs(m.rows), rows)
}

// requireEqual compares everything.
func (m model) requireEqual(t testing.TB, k *kv.Machine) {
	t.Helper()
	v, err := k.View()
	require.NoError(t, err)
	m.requireRows(t, v.State())
	index, term := v.Position()
	require.Equal(t, [2]uint64{m.index, m.term}, [2]uint64{index, term})
	for _, row := range pairs(m.rows) {
		require.Equal(t, row[1], string(v.Row([]byte(row[0]))))
	}
	require.Nil(t, v.Row([]byte("no such row")))
	require.NoError(t, v.Close())
	var got [][2]string
	k.Scan(nil, nil, func(key, value []byte) bool {
		got = append(got, [2]string{string(key), string(value)})
		return true
	})
	require.Equal(t, pairs(m.data), got)
	size := 0
	for _, of := range []map[string]string{m.data, m.rows} {
		for key, value := range of {
			size += len(key) + len(value)
		}
	}
	require.EqualValues(t, size, k.SizeBytes())
	require.Equal(t, len(m.data), k.Len())
}

// command draws a command, applies it to the model, and says what the machine
// must answer.
func (m *model) command(r *rand.Rand) ([]byte, kv.Outcome) {
	key := fmt.Sprintf("k%02d", r.IntN(40))
	old, found := m.data[key]
	switch r.IntN(8) {
	case 0, 1, 2:
		value := randomValue(r)
		m.data[key] = value
		return kv.EncodePut(nil, []byte(key), []byte(value)), kv.Outcome{Done: true, Found: found}
	case 3:
		delete(m.data, key)
		return kv.EncodeDelete(nil, []byte(key)), kv.Outcome{Done: found, Found: found}
	case 4, 5:
		delta := r.Int64() - r.Int64()
		command := kv.EncodeAdd(nil, []byte(key), delta)
		if found && len(old) != 8 {
			return command, kv.Outcome{Found: true, Value: []byte{}}
		}
		var sum int64
		if found {
			sum = int64(binary.LittleEndian.Uint64([]byte(old)))
		}
		sum += delta
		m.data[key] = string(binary.LittleEndian.AppendUint64(nil, uint64(sum)))
		return command, kv.Outcome{Done: true, Found: found, Counter: sum}
	case 6:
		value, expect := randomValue(r), []byte(old)
		if r.IntN(3) == 0 {
			expect = []byte("something else")
		} else if !found {
			expect = nil
		}
		command := kv.EncodeCompareAndSwap(nil, []byte(key), expect, []byte(value))
		switch {
		case found != (expect != nil), found && old != string(expect):
			outcome := kv.Outcome{Found: found}
			if found {
				outcome.Value = []byte(old)
			}
			return command, outcome
		}
		m.data[key] = value
		return command, kv.Outcome{Done: true, Found: found}
	default:
		return kv.EncodeNop(nil, []byte(key)), kv.Outcome{Done: true}
	}
}

func randomValue(r *rand.Rand) string {
	return string(bytes.Repeat([]byte{byte('a' + r.IntN(26))}, r.IntN(40)))
}

// batch draws a batch with the answers it must get.
func (m *model) batch(r *rand.Rand) (*consensus.Batch, []kv.Outcome) {
	m.index += 1 + r.Uint64N(3)
	m.term += r.Uint64N(2)
	b := &consensus.Batch{Index: m.index, Term: m.term}
	var want []kv.Outcome
	for range r.IntN(6) {
		command, outcome := m.command(r)
		b.Commands = append(b.Commands, command)
		want = append(want, outcome)
	}
	for range r.IntN(3) {
		key := fmt.Sprintf("row%d", r.IntN(5))
		row := consensus.Row{Key: []byte(key)}
		if r.IntN(3) > 0 {
			row.Value = []byte(randomValue(r))
			m.rows[key] = string(row.Value)
		} else {
			delete(m.rows, key)
		}
		b.Rows = append(b.Rows, row)
	}
	return b, want
}

// step applies a random batch to machine and model, compares the answers, and
// scribbles over the batch, which the machine must not have kept.
func (m *model) step(t testing.TB, r *rand.Rand, k *kv.Machine) {
	t.Helper()
	b, want := m.batch(r)
	results := make([]consensus.Result, len(b.Commands))
	require.NoError(t, k.Apply(b, results))
	for i, result := range results {
		got, err := kv.ParseOutcome(result.Data)
		require.NoError(t, err)
		require.Equal(t, want[i], got)
	}
	for _, command := range b.Commands {
		clear(command)
	}
	for _, row := range b.Rows {
		clear(row.Key)
		clear(row.Value)
	}
}

func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			k, m := open(t, kv.Options{}), newModel()
			flushed := m.clone()
			for range 400 {
				switch r.IntN(20) {
				case 0:
					require.NoError(t, k.Flush(context.Background(), m.index))
					require.Equal(t, m.index, k.Durable())
					flushed = m.clone()
				case 1:
					require.NoError(t, k.Close())
					state, err := k.Open()
					require.NoError(t, err)
					m = flushed.clone()
					m.requireRows(t, state)
				default:
					m.step(t, r, k)
				}
				m.requireEqual(t, k)
			}
			requireScans(t, r, k, m)
		})
	}
}

// requireScans compares random ranges and single reads.
func requireScans(t *testing.T, r *rand.Rand, k *kv.Machine, m model) {
	for range 50 {
		start, end := fmt.Sprintf("k%02d", r.IntN(42)), fmt.Sprintf("k%02d", r.IntN(42))
		limit := 1 + r.IntN(10)
		var want, got [][2]string
		for _, pair := range pairs(m.data) {
			if pair[0] >= start && pair[0] < end && len(want) < limit {
				want = append(want, pair)
			}
		}
		k.Scan([]byte(start), []byte(end), func(key, value []byte) bool {
			got = append(got, [2]string{string(key), string(value)})
			return len(got) < limit
		})
		require.Equal(t, want, got)
		value, ok := k.Get([]byte(start))
		require.Equal(t, m.data[start], string(value))
		_, expect := m.data[start]
		require.Equal(t, expect, ok)
	}
}
