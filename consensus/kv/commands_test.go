package kv_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// A sums program keeps a number in each pair, and the sum of all beside them.
type sums struct {
	total, published, index uint64
	refuse                  bool
}

func (s *sums) Load(p kv.Pairs) error {
	if s.refuse {
		return errors.New("not these")
	}
	s.total = 0
	p.Ascend(nil, func(_, value []byte) bool {
		s.total += uint64(len(value))
		return true
	})
	return nil
}

func (s *sums) Run(p kv.Pairs, command []byte) []byte {
	if string(command) == "drop" {
		p.Delete([]byte("k"))
		s.total = 0
		return nil
	}
	old, _ := p.Get([]byte("k"))
	p.Put([]byte("k"), append(append([]byte(nil), old...), command...))
	s.total += uint64(len(command))
	return fmt.Append(nil, s.total)
}

func (s *sums) Applied(index uint64) { s.published, s.index = s.total, index }

// The caller's commands run in the place of the package's own, over what is stored:
// after a restart and after a snapshot too, and one that they refuse changes nothing.
func TestCommandsOfTheCallers(t *testing.T) {
	fs := vfs.NewMem()
	s := new(sums)
	m := open(t, kv.Options{FS: fs, Dir: "kv", Commands: s})
	results := make([]consensus.Result, 2)
	require.NoError(t, m.Apply(&consensus.Batch{Index: 4, Term: 1, Commands: [][]byte{[]byte("abc"), []byte("de")}}, results))
	require.Equal(t, "5", string(results[1].Data))
	require.Equal(t, sums{total: 5, published: 5, index: 4}, *s)
	require.NoError(t, m.Flush(t.Context(), 4))
	require.NoError(t, m.Close())

	s = new(sums)
	m = open(t, kv.Options{FS: fs, Dir: "kv", Commands: s})
	require.Equal(t, sums{total: 5, published: 5, index: 4}, *s)
	other := new(sums)
	to := open(t, kv.Options{Commands: other})
	require.NoError(t, to.Apply(&consensus.Batch{Index: 2, Term: 1, Commands: [][]byte{[]byte("x")}}, results[:1]))
	other.refuse = true
	staged, err := to.Stage(bytes.NewReader(streamOf(t, m)))
	require.NoError(t, err)
	require.ErrorContains(t, staged.Install(t.Context()), "not these")
	got, _ := to.Get([]byte("k"))
	require.Equal(t, "x", string(got))
	require.Zero(t, to.Durable())
	other.refuse = false
	require.NoError(t, staged.Install(t.Context()))
	require.Equal(t, sums{total: 5, published: 5, index: 4}, *other)

	require.NoError(t, m.Apply(&consensus.Batch{Index: 5, Term: 1, Commands: [][]byte{[]byte("drop")}}, results[:1]))
	require.Zero(t, m.Len())
	require.NoError(t, m.Close())
	broken, err := kv.New(kv.Options{FS: fs, Dir: "kv", Commands: &sums{refuse: true}})
	require.NoError(t, err)
	_, err = broken.Open()
	require.ErrorContains(t, err, "not these")
}
