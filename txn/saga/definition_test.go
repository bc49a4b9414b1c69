package saga_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/saga"
)

func nothing(context.Context, *saga.Context) ([]byte, error) { return nil, nil }

// A definition that could not be run is refused, and the error names the step.
func TestDefinitionsAreValidated(t *testing.T) {
	data := saga.Data(nothing)
	step := func(name string, after ...string) saga.Step {
		return saga.Step{Name: name, After: after, Do: data, Undo: data}
	}
	with := func(s saga.Step, change func(*saga.Step)) saga.Step { change(&s); return s }
	pivot := func(s *saga.Step) { s.Pivot, s.Undo = true, saga.Action{} }
	forward := func(s *saga.Step) { s.Undo = saga.Action{} }
	many := make([]saga.Step, 257)
	for i := range many {
		many[i] = step(string(rune('a' + i)))
	}
	for _, c := range []struct {
		name  string
		steps []saga.Step
		flaw  saga.Flaw
		step  string
		other string
	}{
		{"one", []saga.Step{step("a")}, 0, "", ""},
		{"diamond", []saga.Step{step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")}, 0, "", ""},
		{"later first", []saga.Step{step("b", "a"), step("a")}, 0, "", ""},
		{"pivot", []saga.Step{step("a"), with(step("b", "a"), pivot), with(step("c", "b"), forward)}, 0, "", ""},
		{"declared", []saga.Step{with(step("a"), func(s *saga.Step) { s.Undo, s.NoUndo = saga.Action{}, true })}, 0, "", ""},
		{"none", nil, saga.NoSteps, "", ""},
		{"many", many, saga.TooManySteps, many[256].Name, ""},
		{"no name", []saga.Step{step("")}, saga.BadName, "", ""},
		{"twice", []saga.Step{step("a"), step("b"), step("a")}, saga.DuplicateStep, "a", ""},
		{"nothing to do", []saga.Step{{Name: "a", NoUndo: true}}, saga.NoAction, "a", ""},
		{"no such step", []saga.Step{step("a"), step("b", "x")}, saga.UnknownDependency, "b", "x"},
		{"named twice", []saga.Step{step("a"), step("b", "a", "a")}, saga.DuplicateDependency, "b", "a"},
		{"itself", []saga.Step{step("a", "a")}, saga.Cycle, "a", ""},
		{"behind a circle", []saga.Step{step("x", "a"), step("a", "b"), step("b", "a")}, saga.Cycle, "a", ""},
		{"two pivots", []saga.Step{with(step("a"), pivot), with(step("b", "a"), pivot)}, saga.SecondPivot, "b", "a"},
		{"beside", []saga.Step{step("a"), with(step("b"), pivot)}, saga.BesidePivot, "a", "b"},
		{"not for ever", []saga.Step{with(step("a"), pivot), with(step("b", "a"), func(s *saga.Step) {
			s.Undo, s.Retry.Attempts = saga.Action{}, 3
		})}, saga.NotRetriable, "b", "a"},
		{"not so long", []saga.Step{with(step("a"), pivot), with(step("b", "a"), func(s *saga.Step) {
			s.Undo, s.Retry.Deadline = saga.Action{}, time.Second
		})}, saga.NotRetriable, "b", "a"},
		{"undo behind", []saga.Step{with(step("a"), pivot), step("b", "a")}, saga.UselessUndo, "b", "a"},
		{"undo and none", []saga.Step{with(step("a"), func(s *saga.Step) { s.NoUndo = true })}, saga.UselessUndo, "a", ""},
		{"no undo", []saga.Step{with(step("a"), forward)}, saga.NoUndo, "a", ""},
		{"retry", []saga.Step{with(step("a"), func(s *saga.Step) { s.Retry.Attempts = -1 })}, saga.BadRetry, "a", ""},
		{"pause", []saga.Step{with(step("a"), func(s *saga.Step) { s.UndoRetry.Initial, s.UndoRetry.Max = 2, 1 })}, saga.BadRetry, "a", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := (&saga.Definition{Name: "d", Version: 3, Steps: c.steps}).Validate()
			if c.flaw == 0 {
				require.NoError(t, err)
				return
			}
			var e *saga.DefinitionError
			require.ErrorAs(t, err, &e)
			require.Equal(t, saga.DefinitionError{Name: "d", Version: 3, Flaw: c.flaw, Step: c.step, Other: c.other}, *e)
		})
	}
	require.Error(t, (&saga.Definition{Steps: []saga.Step{step("a")}}).Validate())
}
