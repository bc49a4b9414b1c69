package saga_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// Steps are done each behind those that it depends on; when one fails, those that were
// done are taken back.
func TestSagas(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	good := &saga.Definition{Name: "good", Version: 1, Steps: []saga.Step{adds("a", "10/a"), adds("b", "40/b", "a"), adds("c", "80/c", "b")}}
	bad := &saga.Definition{Name: "bad", Version: 1, Steps: []saga.Step{adds("a", "10/a"), adds("b", "40/b", "a"), {Name: "c", After: []string{"b"}, Do: fails, NoUndo: true}}}
	first := &saga.Definition{Name: "first", Version: 1, Steps: []saga.Step{{Name: "c", Do: fails, NoUndo: true}, adds("a", "10/a", "c")}}
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{good, bad, first}})
	ctx := within(t, 30*time.Second)

	s, err := o.Start(ctx, saga.ID{Home: home, Name: "one"}, "good", 1, nil)
	require.NoError(t, err)
	res, err := s.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, saga.Done, res.State)
	require.Equal(t, "b", string(res.Outputs["b"]))
	for _, key := range []string{"10/a/one", "40/b/one", "80/c/one"} {
		require.EqualValues(t, 1, w.counter(key), key)
	}

	s, err = o.Start(ctx, saga.ID{Home: home, Name: "two"}, "bad", 1, nil)
	require.NoError(t, err)
	res, err = s.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, saga.Compensated, res.State)
	require.Equal(t, "c", res.Failed)
	require.Equal(t, "it fails", res.Cause)
	for _, key := range []string{"10/a/two", "40/b/two"} {
		require.EqualValues(t, 101, w.counter(key), key)
	}

	s, err = o.Start(ctx, saga.ID{Home: home, Name: "three"}, "first", 1, nil)
	require.NoError(t, err)
	res, err = s.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, saga.Compensated, res.State)
	require.Zero(t, w.counter("10/a/three"))
	in, err := o.Inspect(ctx, s.ID())
	require.NoError(t, err)
	require.Equal(t, saga.Failed, in.Steps[0].State)
	require.Equal(t, saga.Pending, in.Steps[1].State)
}
