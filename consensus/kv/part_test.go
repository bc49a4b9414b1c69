package kv_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

func keys(m *kv.Machine) (list []string) {
	m.Scan(nil, nil, func(key, _ []byte) bool {
		list = append(list, string(key))
		return true
	})
	return list
}

func opened(t *testing.T, pairs ...string) *kv.Machine {
	t.Helper()
	m := open(t, kv.Options{})
	b := &consensus.Batch{Index: 5, Term: 2, Rows: []consensus.Row{{Key: []byte("row"), Value: []byte("r")}}}
	for _, key := range pairs {
		b.Commands = append(b.Commands, kv.EncodePut(nil, []byte(key), []byte("of "+key)))
	}
	require.NoError(t, m.Apply(b, make([]consensus.Result, len(b.Commands))))
	return m
}

// What one machine retains and what another is given of it is all there was, once;
// and what the second holds comes back as it was.
func TestParts(t *testing.T) {
	for _, c := range []struct {
		name, start, end string
		in, out          []string
	}{
		{"right", "m", "", []string{"m", "ma", "z"}, []string{"a", "l"}},
		{"left", "", "m", []string{"a", "l"}, []string{"m", "ma", "z"}},
		{"middle", "b", "ma", []string{"l", "m"}, []string{"a", "ma", "z"}},
		{"all", "", "", []string{"a", "l", "m", "ma", "z"}, nil},
		{"none", "n", "o", nil, []string{"a", "l", "m", "ma", "z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := opened(t, "z", "ma", "m", "l", "a")
			view, err := whole.View()
			require.NoError(t, err)
			_, before := whole.Digest()

			require.NoError(t, whole.Retain(&consensus.Batch{Index: 6, Term: 2}, c.start, c.end))
			require.Equal(t, c.in, keys(whole))
			require.ErrorContains(t, whole.Retain(&consensus.Batch{Index: 6, Term: 2}, "", ""), "6 is applied already")

			part := opened(t)
			rows := []consensus.Row{{Key: []byte("row"), Value: []byte("r")}}
			var stream bytes.Buffer
			w := view.(interface {
				WritePart(w io.Writer, start, end string, at consensus.State) error
			})
			require.NoError(t, w.WritePart(&stream, c.start, c.end, consensus.State{Index: 9, Term: 3, Rows: rows}))
			staged, err := part.Stage(&stream)
			require.NoError(t, err)
			require.Equal(t, consensus.State{Index: 9, Term: 3, Rows: rows}, staged.State())
			require.NoError(t, staged.Install(t.Context()))
			require.Equal(t, c.in, keys(part))

			rest := opened(t, c.out...)
			frozen, err := part.View()
			require.NoError(t, err)
			require.NoError(t, rest.Absorb(&consensus.Batch{Index: 6, Term: 2}, frozen))
			require.Equal(t, []string{"a", "l", "m", "ma", "z"}, keys(rest))
			value, _ := rest.Get([]byte("ma"))
			require.Equal(t, "of ma", string(value))

			again := opened(t, "z", "ma", "m", "l", "a")
			require.NoError(t, again.Apply(&consensus.Batch{Index: 6, Term: 2}, nil))
			_, want := again.Digest()
			_, got := rest.Digest()
			require.Equal(t, want, got)
			require.NotEqual(t, before, got, "the position counts")
			require.Equal(t, again.SizeBytes(), rest.SizeBytes())
		})
	}
}

func TestFlushIf(t *testing.T) {
	m := opened(t, "a")
	asked := uint64(0)
	no := func(index uint64) bool { asked = index; return false }
	require.ErrorIs(t, m.FlushIf(t.Context(), 3, no), kv.ErrHeld)
	require.Equal(t, uint64(5), asked)
	require.Zero(t, m.Durable())
	require.NoError(t, m.FlushIf(t.Context(), 3, func(uint64) bool { return true }))
	require.Equal(t, uint64(5), m.Durable())
}

func TestAbsorbWhatIsNoView(t *testing.T) {
	m := opened(t, "a")
	require.ErrorContains(t, m.Absorb(&consensus.Batch{Index: 6, Term: 2}, nil), "expected a view")
	require.Equal(t, []string{"a"}, keys(m))
}
