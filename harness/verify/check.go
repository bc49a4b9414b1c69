package verify

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// DefaultTimeout bounds a check unless told otherwise.
const DefaultTimeout = 30 * time.Second

// ErrUndecided says that the search did not end in time. It proves nothing.
var ErrUndecided = errors.New("verify: undecided")

// A Violation is a key whose history no order of its operations explains.
type Violation struct {
	Key string
	// Calls are the operations on Key, in the order they were made.
	Calls []string
	// Explained is the longest order found that explains a part of them, and
	// State what the register holds after it.
	Explained []string
	State     string
	// Stuck are the operations that had to come next, and do not fit.
	Stuck []string

	info porcupine.LinearizationInfo
}

// shown bounds the lines of each list in an error.
const shown = 30

// Error returns the story in full sentences and the operations that tell it.
func (v *Violation) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "verify: key %q is not linearizable: of %d operations %d can be ordered, leaving %s; none of these can follow:\n",
		v.Key, len(v.Calls), len(v.Explained), v.State)
	list(&s, v.Stuck, 0)
	s.WriteString("the order so far, its end:\n")
	list(&s, v.Explained, max(0, len(v.Explained)-shown))
	return s.String()
}

func list(s *strings.Builder, lines []string, from int) {
	for i, line := range lines[from:] {
		if i == shown {
			fmt.Fprintf(s, "  and %d more\n", len(lines)-from-shown)
			return
		}
		fmt.Fprintf(s, "  %s\n", line)
	}
}

// Draw writes the history of the key as a picture for a browser.
func (v *Violation) Draw(path string) error {
	if err := porcupine.VisualizePath(model, v.info, path); err != nil {
		return fmt.Errorf("verify: picture of key %q: %w", v.Key, err)
	}
	return nil
}

// Check returns nil if h is linearizable, a *Violation of the first key in
// alphabetical order that is not, an error that is ErrUndecided if the search
// took longer than timeout (zero selects DefaultTimeout), or one that is
// ErrFull. Calls that have not ended count as unknown.
func (h *History) Check(timeout time.Duration) error {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	keys, err := h.byKey()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(timeout)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		calls := keys[key]
		// A timeout of zero or less would mean none at all.
		left := max(time.Until(deadline), time.Millisecond)
		switch porcupine.CheckOperationsTimeout(model, operations(calls), left) {
		case porcupine.Illegal:
			return explain(key, calls, timeout)
		case porcupine.Unknown:
			return fmt.Errorf("%w: key %q: %d operations, %d of unknown outcome, in %v",
				ErrUndecided, key, len(calls), countUnknown(calls), timeout)
		}
	}
	return nil
}

func countUnknown(calls []Call) (n int) {
	for i := range calls {
		if calls[i].ending == unknown {
			n++
		}
	}
	return n
}

// explain searches again, this time keeping what the picture and the report
// need, which costs memory that a history in order should not.
func explain(key string, calls []Call, timeout time.Duration) *Violation {
	v := &Violation{Key: key, State: register{}.String()}
	for i := range calls {
		v.Calls = append(v.Calls, calls[i].String())
	}
	_, v.info = porcupine.CheckOperationsVerbose(model, operations(calls), timeout)
	var longest []int
	for _, part := range v.info.PartialLinearizations() {
		for _, order := range part {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	state, done := register{}, map[int]bool{}
	for _, i := range longest {
		_, state = calls[i].step(state)
		v.Explained = append(v.Explained, v.Calls[i])
		done[i] = true
	}
	v.State = state.String()
	v.Stuck = stuck(calls, done)
	return v
}

// stuck returns the operations not yet ordered that began before the first of
// them returned: one of these must come next.
func stuck(calls []Call, done map[int]bool) []string {
	var rest []*Call
	first := time.Duration(-1)
	for i := range calls {
		c := &calls[i]
		if done[i] {
			continue
		}
		rest = append(rest, c)
		if c.ending == answered && (first < 0 || c.returned < first) {
			first = c.returned
		}
	}
	slices.SortStableFunc(rest, func(a, b *Call) int { return cmp.Compare(a.called, b.called) })
	var lines []string
	for _, c := range rest {
		if first < 0 || c.called <= first {
			lines = append(lines, c.String())
		}
	}
	return lines
}

// Require fails t unless h is linearizable. It prints the seed that repeats the
// workload and its faults, the operations that do not fit, and draws them into
// t's artifact directory, which go test keeps under -artifacts.
func Require(t testing.TB, h *History, seed uint64) {
	t.Helper()
	err := h.Check(0)
	if err == nil {
		return
	}
	var v *Violation
	if !errors.As(err, &v) {
		t.Fatalf("seed %d: %v", seed, err)
	}
	path := filepath.Join(t.ArtifactDir(), "violation.html")
	if drawErr := v.Draw(path); drawErr != nil {
		path = drawErr.Error()
	}
	t.Fatalf("seed %d: %v\npicture (kept under -artifacts): %s", seed, v, path)
}
