package kv_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// crash is a disk as a loss of power left it, with what the machine had
// promised by then.
type crash struct {
	fs      *vfs.MemFS
	durable uint64
}

// crasher loses power at random operations of the file system, while the
// machine goes on.
type crasher struct {
	disk    *vfs.MemFS
	r       *rand.Rand
	machine *kv.Machine
	crashes []crash
}

func (c *crasher) MaybeError(op errorfs.Op) error {
	if c.machine == nil || op.Kind.ReadOrWrite() == errorfs.OpIsRead || c.r.IntN(4) > 0 {
		return nil
	}
	c.crash()
	return nil
}

func (c *crasher) String() string { return "crash" }

func (c *crasher) crash() {
	config := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[c.r.IntN(3)], RNG: c.r}
	c.crashes = append(c.crashes, crash{c.disk.CrashClone(config), c.machine.Durable()})
}

// TestCrash loses power between and within operations of the machine. What is
// found afterwards is a state between two batches, whole, rows included, and
// not older than what Durable promised.
func TestCrash(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 6
	}
	found := 0
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 2))
		c := &crasher{disk: vfs.NewCrashableMem(), r: r}
		options := kv.Options{FS: errorfs.Wrap(c.disk, c), Dir: "data/group/7"}
		c.machine = open(t, options)
		m := newModel()
		states := map[uint64]model{0: m.clone()}
		for range 60 {
			switch r.IntN(6) {
			case 0:
				require.NoError(t, c.machine.Flush(context.Background(), r.Uint64N(m.index+1)))
			case 1:
				install(t, r, c.machine, &m, states)
			default:
				m.step(t, r, c.machine)
			}
			states[m.index] = m.clone()
			c.crash()
		}
		for i, crash := range c.crashes {
			k, err := kv.New(kv.Options{FS: crash.fs, Dir: options.Dir})
			require.NoError(t, err)
			state, err := k.Open()
			require.NoError(t, err, "seed %d crash %d", seed, i)
			require.GreaterOrEqual(t, state.Index, crash.durable, "seed %d crash %d", seed, i)
			require.Equal(t, state.Index, k.Durable())
			require.Contains(t, states, state.Index, "seed %d crash %d", seed, i)
			states[state.Index].requireEqual(t, k)
			if state.Index > 0 {
				found++
			}
		}
	}
	require.Positive(t, found, "no crash left a checkpoint")
}

// install makes the machine jump to the state of another replica that is ahead.
func install(t *testing.T, r *rand.Rand, k *kv.Machine, m *model, states map[uint64]model) {
	t.Helper()
	ahead := newModel()
	other := open(t, kv.Options{})
	ahead.index = m.index
	for range 3 {
		ahead.step(t, r, other)
	}
	staged, err := k.Stage(bytes.NewReader(streamOf(t, other)))
	require.NoError(t, err)
	ahead.requireRows(t, staged.State())
	if r.IntN(3) == 0 {
		require.NoError(t, staged.Discard())
		return
	}
	// A crash within Install may show the new state already.
	states[ahead.index] = ahead.clone()
	require.NoError(t, staged.Install(context.Background()))
	require.Equal(t, ahead.index, k.Durable())
	*m = ahead
	m.requireEqual(t, k)
}

// stream returns the machine's snapshot.
func streamOf(t testing.TB, k *kv.Machine) []byte {
	t.Helper()
	v, err := k.View()
	require.NoError(t, err)
	var buf bytes.Buffer
	n, err := v.WriteTo(&buf)
	require.NoError(t, err)
	require.EqualValues(t, buf.Len(), n)
	require.NoError(t, v.Close())
	return buf.Bytes()
}

// failOnce fails one operation of the file system.
type failOnce struct {
	left  int // operations before it, negative once it has failed
	armed bool
}

func (f *failOnce) MaybeError(errorfs.Op) error {
	if !f.armed || f.left < 0 {
		return nil
	}
	if f.left--; f.left < 0 {
		return errorfs.ErrInjected
	}
	return nil
}

func (f *failOnce) String() string { return "fail once" }

// TestDiskErrors fails each operation of a Flush and of an Install in turn.
// The machine says so, promises nothing, and the disk still opens as one of the
// two states and can be flushed.
func TestDiskErrors(t *testing.T) {
	ctx := context.Background()
	a := []byte("a")
	for _, what := range []string{"flush", "install"} {
		failures := 0
		for at := 0; ; at++ {
			fail := &failOnce{left: at}
			k := open(t, kv.Options{FS: errorfs.Wrap(vfs.NewMem(), fail), Dir: "kv"})
			apply(t, k, kv.EncodePut(nil, a, []byte("1")))
			require.NoError(t, k.Flush(ctx, 1))
			ahead := open(t, kv.Options{})
			apply(t, ahead, kv.EncodePut(nil, a, []byte("1")))
			apply(t, ahead, kv.EncodePut(nil, a, []byte("2")))

			var err error
			if what == "flush" {
				apply(t, k, kv.EncodePut(nil, a, []byte("2")))
				fail.armed = true
				err = k.Flush(ctx, 2)
			} else {
				fail.armed = true
				var staged consensus.Staged
				if staged, err = k.Stage(bytes.NewReader(streamOf(t, ahead))); err == nil {
					err = staged.Install(ctx)
				}
			}
			fail.armed = false

			durable := k.Durable()
			if err != nil {
				failures++
				require.ErrorIs(t, err, errorfs.ErrInjected)
				require.EqualValues(t, 1, durable, "%s, operation %d", what, at)
			} else {
				// What fails behind the last sync is only the tidying.
				require.EqualValues(t, 2, durable, "%s, operation %d", what, at)
			}
			require.NoError(t, k.Close())
			state, openErr := k.Open()
			require.NoError(t, openErr, "%s, operation %d", what, at)
			require.GreaterOrEqual(t, state.Index, durable)
			value, _ := k.Get(a)
			require.Equal(t, fmt.Sprint(state.Index), string(value))
			apply(t, k, kv.EncodeNop(nil, nil))
			require.NoError(t, k.Flush(ctx, state.Index+1), "%s again, operation %d", what, at)
			if fail.left >= 0 {
				break
			}
		}
		require.Greater(t, failures, 5, what)
	}
}
