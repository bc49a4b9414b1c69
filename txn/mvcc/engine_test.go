package mvcc

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Close waits for who is inside. Who enters a second time meanwhile is refused: he would
// wait for Close, and Close for him.
func TestCloseWaitsForReaders(t *testing.T) {
	r := newRig(t)
	r.apply(r.put(1, 10, "a", "1"))
	rd, err := r.s.Reader()
	require.NoError(t, err)
	closed := make(chan error)
	go func() { closed <- r.e.Close() }()
	require.Eventually(t, r.e.closing.Load, time.Minute, time.Millisecond)
	_, err = r.s.Reader()
	require.ErrorIs(t, err, ErrClosed)
	_, _, err = r.s.Sweep(10)
	require.ErrorIs(t, err, ErrClosed)
	v, _, err := rd.Get("a", 10, 0)
	require.NoError(t, err, "the engine is still open for this one")
	require.Equal(t, "1", string(v.Value))
	select {
	case <-closed:
		require.Fail(t, "closed under a reader")
	default:
	}
	require.NoError(t, rd.Close())
	require.NoError(t, <-closed)
	require.NoError(t, r.e.Close(), "a second time")
	require.ErrorIs(t, r.s.Flush(t.Context(), 1), ErrClosed)
}

func TestOptions(t *testing.T) {
	fs := vfs.NewMem()
	for _, o := range []Options{
		{Dir: "d"}, {FS: fs}, {FS: fs, Dir: "d", CacheBytes: -1},
		{FS: fs, Dir: "d", MemTableBytes: 256<<10 - 1}, {FS: fs, Dir: "d", MemTableBytes: 1<<30 + 1},
	} {
		_, err := Open(o)
		require.ErrorContains(t, err, "mvcc: options: ", "%+v", o)
	}
	for _, bytes := range []int64{256 << 10, 1 << 30} {
		_, err := Options{FS: fs, Dir: "d", MemTableBytes: bytes}.withDefaults()
		require.NoError(t, err)
	}
}
