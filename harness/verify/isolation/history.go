package isolation

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// An OpKind is what an operation does.
type OpKind uint8

// The kinds of operation.
const (
	Append   OpKind = iota // Value to the list of Key
	ReadList               // List is what was read
	Write                  // Value to the register of Key
	Read                   // Value is what was read, 0 if there was none
)

// An Op is one operation of a transaction, with its answer.
type Op struct {
	Kind  OpKind
	Key   string
	Value uint64   // above 0 if it is written
	List  []uint64 // not to be changed any more
}

func (o Op) String() string {
	switch o.Kind {
	case Append:
		return fmt.Sprintf("append(%s, %d)", o.Key, o.Value)
	case ReadList:
		return fmt.Sprintf("read(%s) = %v", o.Key, brief(o.List))
	case Write:
		return fmt.Sprintf("write(%s, %d)", o.Key, o.Value)
	case Read:
		return fmt.Sprintf("read(%s) = %d", o.Key, o.Value)
	}
	return fmt.Sprintf("kind %d", o.Kind)
}

// An Outcome is how a transaction ended, as far as its client knows.
type Outcome uint8

// The outcomes.
const (
	// Unknown: it may have committed or not, at any time. It has if anybody read what
	// it wrote.
	Unknown Outcome = iota
	Committed
	Aborted
)

func (o Outcome) String() string { return [...]string{"unknown", "committed", "aborted"}[o] }

// A Txn is one transaction.
type Txn struct {
	Client  int
	Outcome Outcome
	// Begin is before it did anything, End after it was answered, by one clock. The
	// End of one of unknown outcome does not count.
	Begin, End time.Duration
	// Ops are in the order in which they were done. A read without an answer is left
	// out.
	Ops []Op
}

func (t *Txn) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %d, %v, %v to %v:", t.Client, t.Outcome, t.Begin, t.End)
	head, tail := ends(len(t.Ops))
	for i := 0; i < len(t.Ops); i++ {
		if i == head {
			fmt.Fprintf(&b, " ... %d more ...", tail-head)
			i = tail
		}
		b.WriteByte(' ')
		b.WriteString(t.Ops[i].String())
	}
	return b.String()
}

// A History is what many clients did.
type History struct {
	mu     sync.Mutex
	txns   []Txn               // guarded by mu
	orders map[string][]uint64 // guarded by mu
}

// Add records a transaction that has ended. Its slices belong to the history then.
func (h *History) Add(t Txn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.txns = append(h.txns, t)
}

// Order tells all values that a register had, from the first on.
func (h *History) Order(key string, values []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.orders == nil {
		h.orders = map[string][]uint64{}
	}
	h.orders[key] = values
}

// Txn returns the transaction that an Anomaly names by its number, in the order in
// which they were added.
func (h *History) Txn(i int) Txn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.txns[i]
}

// Len is the number of transactions.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.txns)
}
