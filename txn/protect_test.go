package txn_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// rewrite writes keys anew for a while, so that what was there before gets old.
func (w *world) rewrite(c *txn.Client, d time.Duration, keys ...string) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, key := range keys {
			w.put(c, key, "new")
		}
	}
}

// versions counts those of a key up to a timestamp, at all replicas.
func (w *world) versions(key string, upTo hlc.Timestamp) (count int) {
	w.t.Helper()
	at, ok := w.Node(1).Locate(key)
	require.True(w.t, ok)
	for i := range w.Nodes() {
		_, store := w.store(i+1, at.Shard)
		r, err := store.Reader()
		require.NoError(w.t, err)
		require.NoError(w.t, r.Versions(key, key+"\x00", 0, upTo, func(string, *mvcc.Version) bool { count++; return true }))
		require.NoError(w.t, r.Close())
	}
	return count
}

// What is protected is read for longer than all else, also where a shard is split
// and merged meanwhile, and goes when it is released.
func TestProtect(t *testing.T) {
	w := closing(t, 3, 1, 20*time.Millisecond, 200*time.Millisecond)
	c := w.client(2, txn.ClientOptions{})
	for _, key := range []string{"00", "60"} {
		w.put(c, key, "old")
	}
	at := w.after(c)
	release, err := c.Protect(within(t, 10*time.Second), "00", "10", at, time.Hour)
	require.NoError(t, err)
	_, err = w.Node(1).Split(within(t, 10*time.Second), "50")
	require.NoError(t, err)
	w.rewrite(c, 700*time.Millisecond, "00", "60")
	same := func() {
		for i := range 3 {
			for _, followers := range []bool{false, true} {
				for _, key := range []string{"00", "60"} { // they were in one shard
					value, _ := w.get(w.at(w.client(i+1, txn.ClientOptions{}), at, followers), key)
					require.Equal(t, "old", value)
				}
			}
		}
	}
	same()
	require.NoError(t, w.Node(1).Merge(within(t, 10*time.Second), w.ids[0]))
	w.rewrite(c, 300*time.Millisecond, "00", "60")
	same()
	_, err = w.Node(1).Split(within(t, 10*time.Second), "40")
	require.NoError(t, err)
	require.NoError(t, release(within(t, 10*time.Second)))
	require.NoError(t, release(within(t, 10*time.Second)), "once more")
	for _, key := range []string{"00", "60"} {
		require.Eventually(t, func() bool {
			w.rewrite(c, 1, key)
			return w.versions(key, at) == 0
		}, 10*time.Second, time.Millisecond)
		_, _, err = w.at(c, at, true).Get(within(t, 10*time.Second), key)
		require.ErrorIs(t, err, txn.ErrSnapshotTooOld)
	}
	for i := range 3 {
		_, err = w.client(i+1, txn.ClientOptions{}).Protect(within(t, 10*time.Second), "", "", at, time.Hour)
		require.ErrorIs(t, err, txn.ErrSnapshotTooOld)
	}
}

// It ends by itself, and can be had for longer.
func TestProtectionsEnd(t *testing.T) {
	w := closing(t, 3, 1, 20*time.Millisecond, 200*time.Millisecond)
	c := w.client(2, txn.ClientOptions{})
	w.put(c, "00", "old")
	at := w.after(c)
	ctx := within(t, 20*time.Second)
	_, err := c.Protect(ctx, "", "", at, 400*time.Millisecond)
	require.NoError(t, err)
	again, err := c.Protect(ctx, "", "", at, time.Second)
	require.NoError(t, err)
	other, err := c.Protect(ctx, "", "", at, time.Hour)
	require.NoError(t, err)
	require.NoError(t, other(ctx))
	w.rewrite(c, 800*time.Millisecond, "00")
	value, _ := w.get(w.at(c, at, true), "00")
	require.Equal(t, "old", value)
	require.Eventually(t, func() bool {
		w.rewrite(c, 1, "00")
		_, _, err := w.at(c, at, true).Get(ctx, "00")
		return errors.Is(err, txn.ErrSnapshotTooOld)
	}, 10*time.Second, 10*time.Millisecond)
	_, store := w.store(1, w.ids[0])
	require.Eventually(t, func() bool {
		left := 0
		store.State().Protected(func(uint64, mvcc.Protection) { left++ })
		return left == 0
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, again(ctx))

	_, err = c.Protect(ctx, "b", "a", at, time.Second)
	require.Error(t, err)
	_, err = c.Protect(ctx, "", "", at, 0)
	require.Error(t, err)
	_, err = c.Protect(ctx, "", "", w.after(c).Add(time.Hour), time.Second)
	require.ErrorIs(t, err, txn.ErrFuture)
}

// Nobody gives up what is read at an intent, which may become a version there.
func TestIntentsKeepWhatIsRead(t *testing.T) {
	w := closing(t, 3, 1, 20*time.Millisecond, 50*time.Millisecond)
	leader, p := w.leader("00")
	left := w.nobodys(1+slices.Index(w.Nodes(), leader), "00/left")
	p.Stands(left, true)
	require.NoError(t, txn.LeaveBy(within(t, 10*time.Second), leader, left, "00/left"))
	r, err := leader.Replica(w.ids[0])
	require.NoError(t, err)
	store := r.Store().(*mvcc.Store)
	c := w.client(1, txn.ClientOptions{})
	looked, at := 0, store.IntentsOf(left.Key)[0].TS
	// It is recovered before long, and then the threshold rises.
	for end := time.Now().Add(20 * time.Second); store.State().Threshold <= at; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), "the threshold does not rise")
		w.put(c, "00/other", "x")
		st := store.State() // of before: what is an intent behind this was one then
		for _, i := range store.IntentsOf(left.Key) {
			looked++
			require.LessOrEqual(t, st.Threshold, i.TS)
		}
	}
	require.NotZero(t, looked)
}
