package saga

import (
	"errors"
	"fmt"
)

// Errors of an orchestrator.
var (
	// ErrClosed says that the orchestrator was closed. What became of a saga since is
	// for others to tell.
	ErrClosed = errors.New("saga: the orchestrator is closed")
	// ErrBusy says that as many sagas are under way as may be. Nothing was started.
	ErrBusy = errors.New("saga: too many sagas are under way")
	// ErrFenced says that another orchestrator has taken over.
	ErrFenced = errors.New("saga: another orchestrator has taken over")
	// ErrNotFound says that there is no such saga, or that it was forgotten.
	ErrNotFound = errors.New("saga: no such saga")
)

// A Flaw is what is wrong with a definition.
type Flaw byte

// The flaws.
const (
	BadName Flaw = 1 + iota
	NoSteps
	TooManySteps
	DuplicateStep
	NoAction
	BadRetry
	UnknownDependency
	DuplicateDependency
	Cycle
	SecondPivot
	BesidePivot  // neither before nor behind the pivot
	NotRetriable // behind the pivot, and tried only so often or so long
	UselessUndo  // an Undo that is never done
	NoUndo       // before the pivot, and neither an Undo nor NoUndo
	DuplicateDefinition
)

func (f Flaw) String() string {
	if f < BadName || f > DuplicateDefinition {
		return fmt.Sprintf("flaw %d", byte(f))
	}
	return [...]string{
		"no name, or one that is too long", "no steps", "too many steps", "two steps of this name", "nothing to do",
		"pauses or bounds that cannot be", "an unknown dependency", "a dependency named twice", "a cycle", "a second pivot",
		"neither before nor behind the pivot", "behind the pivot and not tried until it is done",
		"an undo that is never done", "no undo", "defined twice",
	}[f-BadName]
}

// A DefinitionError says why a definition is refused.
type DefinitionError struct {
	Name    string
	Version uint32
	Flaw    Flaw
	Step    string // empty: the whole
	Other   string // the other step that it is about, if there is one
}

func (e *DefinitionError) Error() string {
	text := fmt.Sprintf("saga: definition %q version %d", e.Name, e.Version)
	if e.Step != "" {
		text += fmt.Sprintf(", step %q", e.Step)
	}
	text += ": " + e.Flaw.String()
	if e.Other != "" {
		text += fmt.Sprintf(" (%q)", e.Other)
	}
	return text
}

// An UnknownDefinitionError says that a saga is of a definition that the orchestrator
// was not given, or was given with other steps.
type UnknownDefinitionError struct {
	Name    string
	Version uint32
	Changed bool // the version is known, with other steps
}

func (e *UnknownDefinitionError) Error() string {
	if e.Changed {
		return fmt.Sprintf("saga: definition %q version %d has other steps than the saga was started with", e.Name, e.Version)
	}
	return fmt.Sprintf("saga: no definition %q version %d", e.Name, e.Version)
}

// An InputError says why what was asked for cannot be.
type InputError struct {
	ID   ID
	Text string
}

func (e *InputError) Error() string { return fmt.Sprintf("saga: %v: %s", e.ID, e.Text) }

// A DifferentError says that a saga of this name was started with another definition or
// input.
type DifferentError struct{ ID ID }

func (e *DifferentError) Error() string {
	return fmt.Sprintf("saga: %v was started as something else", e.ID)
}

// A StateError says that a saga, or a step of it, is not as it would have to be.
// Nothing was changed.
type StateError struct {
	ID   ID
	Step string // empty: the saga
	Is   string
	Want string
}

func (e *StateError) Error() string {
	text := fmt.Sprintf("saga: %v", e.ID)
	if e.Step != "" {
		text += fmt.Sprintf(", step %q", e.Step)
	}
	return fmt.Sprintf("%s is %s, expected %s", text, e.Is, e.Want)
}

// A LockedError says that a saga has locked a key.
type LockedError struct {
	Key    string
	Holder ID
	Step   string // which of its steps took the lock
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("saga: %q is locked by %v since its step %q", e.Key, e.Holder, e.Step)
}

// permanent and transient are what their functions make of an error.
type (
	permanent struct{ error }
	transient struct{ error }
)

func (e permanent) Unwrap() error { return e.error }
func (e transient) Unwrap() error { return e.error }

// Permanent says that something did not happen, and that trying again does not help.
func Permanent(err error) error { return permanent{err} }

// Transient says that a call did not happen, and can be tried again. Errors of actions
// on rows are that by themselves.
func Transient(err error) error { return transient{err} }
