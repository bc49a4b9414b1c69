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

// What one machine drops and what another is given of it are the same, and what the
// second holds comes back as it was.
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

			require.NoError(t, whole.Drop(c.start, c.end, []consensus.Row{{Key: []byte("row")}}))
			require.Equal(t, c.out, keys(whole))
			index, _ := whole.Position()
			require.Equal(t, uint64(5), index)
			left, err := whole.View()
			require.NoError(t, err)
			require.Nil(t, left.Row([]byte("row")))

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
			require.NoError(t, rest.Absorb(&consensus.Batch{Index: 6, Term: 2}, frozen, c.start, c.end))
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

// What is absorbed is what of the other is in the span.
func TestAbsorbAPart(t *testing.T) {
	from, err := opened(t, "a", "m", "z").View()
	require.NoError(t, err)
	m := opened(t, "b")
	require.NoError(t, m.Absorb(&consensus.Batch{Index: 6, Term: 2}, from, "b", "z"))
	require.Equal(t, []string{"b", "m"}, keys(m))
	require.NoError(t, m.Absorb(&consensus.Batch{Index: 7, Term: 2}, from, "b", ""))
	require.Equal(t, []string{"b", "m", "z"}, keys(m))
	require.ErrorContains(t, m.Absorb(&consensus.Batch{Index: 7, Term: 2}, from, "", ""), "7 is applied already")
}

func TestDropFromAClosedMachine(t *testing.T) {
	m := opened(t, "a")
	require.ErrorContains(t, m.Drop("", "", []consensus.Row{{Key: make([]byte, kv.MaxKeyBytes+1)}}), "row with a key")
	require.Equal(t, []string{"a"}, keys(m))
	require.NoError(t, m.Close())
	require.ErrorIs(t, m.Drop("", "", nil), kv.ErrClosed)
}

func TestAbsorbWhatIsNoView(t *testing.T) {
	m := opened(t, "a")
	require.ErrorContains(t, m.Absorb(&consensus.Batch{Index: 6, Term: 2}, nil, "", ""), "expected a view")
	require.Equal(t, []string{"a"}, keys(m))
}
