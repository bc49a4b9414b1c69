package saga

import (
	"context"
	"time"

	"github.com/phantomdb/phantomdb/txn"
)

// A Definition is what the sagas of a name and version do: steps, each of which begins
// when those that it names in After are done. It must not change once a saga of it was
// started; what changes is another version.
type Definition struct {
	Name    string
	Version uint32
	Steps   []Step
	_       struct{}
}

// A Step is one of the actions of a saga, and how it is taken back.
type Step struct {
	Name  string
	After []string // the steps that are done before it
	Do    Action
	// Undo takes back what Do has done. A step that cannot be taken back comes behind
	// the pivot, or is it; one that has nothing to take back says NoUndo.
	Undo   Action
	NoUndo bool
	// Pivot says that with this step the saga is decided: behind it nothing is taken
	// back, and steps are tried until they are done. Every other step is before or
	// behind it.
	Pivot bool
	// Retry is for Do and UndoRetry for Undo.
	Retry, UndoRetry Retry
	// At returns a prefix of keys with which the step's row lies on the shard that the
	// step writes, so that its transaction has one shard. It is asked once, when the
	// saga is started. Default: the saga's home.
	At func(input []byte) string
	_  struct{}
}

// A Func does something. What it returns is the output of the step, which those behind
// it read. An error says that it did not; see Permanent and Transient.
type Func func(ctx context.Context, c *Context) ([]byte, error)

// A CheckFunc finds out what became of a call. With an error or Unknown it is asked
// again later.
type CheckFunc func(ctx context.Context, c *Context) (Verdict, []byte, error)

// An Action is what a step does, or what takes it back.
type Action struct {
	data, call Func
	check      CheckFunc
}

// Data is an action on rows: f reads and writes with Context.Tx and does nothing else,
// for it may be called again. What it writes is committed together with the record that
// it was done. It must not end the transaction.
func Data(f Func) Action { return Action{data: f} }

// Call is an action outside: before f is called, a record says that it is going to be.
// An error that is neither Permanent nor Transient says that nobody knows whether it
// happened: then the step is parked until check, or Orchestrator.Resolve, tells. check
// may be nil.
func Call(f Func, check CheckFunc) Action { return Action{call: f, check: check} }

func (a *Action) none() bool { return a.data == nil && a.call == nil }

// A Verdict is what became of a call.
type Verdict byte

// The verdicts.
const (
	Unknown Verdict = iota
	Happened
	NotHappened
)

func (v Verdict) String() string {
	if v > NotHappened {
		return "no verdict"
	}
	return [...]string{"unknown", "happened", "not happened"}[v]
}

// A Retry says when something that failed is tried again. A zero field selects its
// default.
type Retry struct {
	// Initial is the pause behind the first failure. Each later one is twice as long,
	// up to Max. A pause is varied by half, either way. Defaults: 10 ms, 10 s.
	Initial, Max time.Duration
	// Attempts and Deadline, since the first attempt, bound how often and for how long
	// it is tried. Attempts are counted anew when another orchestrator takes over.
	// Default: for ever.
	Attempts int
	Deadline time.Duration
	_        struct{}
}

func (r Retry) withDefaults() Retry {
	if r.Initial == 0 {
		r.Initial = 10 * time.Millisecond
	}
	if r.Max == 0 {
		r.Max = max(10*time.Second, r.Initial)
	}
	return r
}

func (r *Retry) bounded() bool { return r.Attempts != 0 || r.Deadline != 0 }

// pause is how long to wait behind the n-th failure, n from 1. spread is from [0, 1).
func (r *Retry) pause(n int, spread float64) time.Duration {
	d := r.Max
	if shift := n - 1; shift < 40 && r.Initial < r.Max>>shift {
		d = r.Initial << shift
	}
	return time.Duration((0.5 + spread) * float64(d))
}

// An ID names a saga.
type ID struct {
	// Home is a prefix of keys: the saga's rows lie behind it. On the shard that most
	// steps write, they cost no second shard.
	Home string
	// Name is the saga's own, among those of its home.
	Name string
}

func (id ID) String() string { return id.Home + ":" + id.Name }

// A Context is what a Func is called with.
type Context struct {
	Saga    ID
	Step    string
	Input   []byte // of the saga
	Attempt int    // from 1
	// Tx is the transaction of an action on rows, nil for a call.
	Tx *txn.Tx
	// Key is the same for all attempts of the same call, and no other: what is outside
	// can tell by it that it was asked already. A saga that is started once more when it
	// was forgotten has the keys that it had.
	Key string

	graph   *graph
	outputs [][]byte
	locks   []string // what was locked in this attempt
}

// Output returns what a step that was done before this one has returned, nil of others.
func (c *Context) Output(step string) []byte {
	if i := c.graph.index(step); i >= 0 {
		return c.outputs[i]
	}
	return nil
}
