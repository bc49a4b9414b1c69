package saga_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// The sagas of an orchestrator that died go on when its lease has ended, and not before.
// One that is opened under its name has them at once.
func TestLease(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var g gate
	list := []*saga.Definition{define("d", adds("a", "10/a"), g.step("b", "40/b", "a"))}
	o := w.open(1, saga.Options{Name: "o", Definitions: list, Lease: 300 * time.Millisecond, Scan: -1})
	other := w.open(2, saga.Options{Name: "other", Definitions: list, Lease: 300 * time.Millisecond, Scan: -1})
	ignorant := w.open(3, saga.Options{Name: "ignorant", Scan: -1})
	s := start(t, o, "one", "d", "")
	time.Sleep(400 * time.Millisecond)
	n, err := other.Resume(within(t, time.Minute))
	require.NoError(t, err)
	require.Zero(t, n, "its orchestrator lives")
	o.Crash()
	_, err = s.Wait(within(t, 10*time.Millisecond))
	require.Error(t, err)
	var unknown *saga.UnknownDefinitionError
	require.Eventually(t, func() bool {
		_, err := ignorant.Resume(within(t, time.Minute))
		return errors.As(err, &unknown)
	}, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		n, err := other.Resume(within(t, time.Minute))
		return err == nil && n == 1
	}, 10*time.Second, time.Millisecond)

	// A second life puts the first one out of office.
	s = start(t, other, "two", "d", "")
	again := w.open(3, saga.Options{Name: "other", Definitions: list, Lease: 300 * time.Millisecond})
	require.Eventually(t, func() bool {
		_, err := other.Start(within(t, time.Minute), id("three"), "d", 1, nil)
		return errors.Is(err, saga.ErrFenced)
	}, 10*time.Second, 10*time.Millisecond)
	g.open.Store(true)
	require.Equal(t, saga.Done, finish(t, start(t, again, "one", "d", "")).State)
	require.Equal(t, saga.Done, finish(t, s).State)
	require.EqualValues(t, 1, w.counter("40/b/two"))
}

// A definition whose steps changed does not run what was started with the others.
func TestChangedDefinition(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var g gate
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{define("d", adds("a", "10/a"), g.step("b", "40/b", "a"))}})
	start(t, o, "one", "d", "")
	require.NoError(t, o.Close(t.Context()))
	other := w.open(2, saga.Options{Name: "other", Scan: -1, Definitions: []*saga.Definition{define("d", adds("a", "10/a"), g.step("x", "40/b", "a"))}})
	var unknown *saga.UnknownDefinitionError
	require.Eventually(t, func() bool {
		_, err := other.Resume(within(t, time.Minute))
		return errors.As(err, &unknown)
	}, 10*time.Second, time.Millisecond)
	require.True(t, unknown.Changed)
}
