package txn_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/verify/isolation"
)

// An audit records what transactions read and wrote, as registers whose values are the
// numbers of rows, and has it checked. A nil audit records nothing.
type audit struct {
	began time.Time
	first uint64 // numbers below are of before

	mu   sync.Mutex
	txns []*isolation.Txn // guarded by mu
}

// now is the time by the audit's clock.
func (a *audit) now() time.Duration {
	if a == nil {
		return 0
	}
	return time.Since(a.began)
}

// begin begins the record of a try, which has done nothing before.
func (a *audit) begin(client int, at time.Duration) *isolation.Txn {
	if a == nil {
		return nil
	}
	return &isolation.Txn{Client: client, Begin: at}
}

// end ends the record of a try, if there is one.
func (a *audit) end(h *isolation.Txn, o isolation.Outcome) {
	if a == nil || h == nil {
		return
	}
	h.Outcome, h.End = o, a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.txns = append(a.txns, h)
}

// check returns how many transactions have committed, and an error if they cannot have
// been kept apart as a level promises.
func (a *audit) check(level isolation.Level) (committed int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var h isolation.History
	a.before(&h)
	for _, t := range a.txns {
		h.Add(*t)
		if t.Outcome == isolation.Committed {
			committed++
		}
	}
	report, err := isolation.Check(&h, level)
	if err != nil {
		return 0, err
	}
	if err := report.Err(); err != nil {
		for _, v := range report.Violations() {
			for _, s := range v.Cycle {
				t := h.Txn(s.Txn)
				err = fmt.Errorf("%w\n\tT%d: %v", err, s.Txn, t.String())
			}
		}
		return 0, err
	}
	return committed, nil
}

// before adds who wrote what was there before the audit began. Each value has a writer
// of its own: nothing is known of what else that one wrote.
func (a *audit) before(h *isolation.History) {
	type value struct {
		key    string
		number uint64
	}
	seen := map[value]bool{}
	for _, t := range a.txns {
		for _, op := range t.Ops {
			v := value{op.Key, op.Value}
			if op.Kind != isolation.Read || op.Value == 0 || op.Value >= a.first || seen[v] {
				continue
			}
			seen[v] = true
			h.Add(isolation.Txn{Client: -1, Outcome: isolation.Committed, Ops: []isolation.Op{{Kind: isolation.Write, Key: op.Key, Value: op.Value}}})
		}
	}
}

// An audit takes what one transaction after the other can have done, from rows that were
// there before it, and nothing else.
func TestAudit(t *testing.T) {
	op := func(kind isolation.OpKind, key string, number uint64) isolation.Op {
		return isolation.Op{Kind: kind, Key: key, Value: number}
	}
	for _, c := range []struct {
		name   string
		second []isolation.Op
		want   string
	}{
		{"after it", []isolation.Op{op(isolation.Read, "a", 11), op(isolation.Write, "a", 12)}, ""},
		{"lost update", []isolation.Op{op(isolation.Read, "a", 5), op(isolation.Write, "a", 12)}, "lost-update"},
		{"write skew", []isolation.Op{op(isolation.Read, "a", 5), op(isolation.Read, "b", 6), op(isolation.Write, "b", 12)}, "G2-item"},
		{"never written", []isolation.Op{op(isolation.Read, "a", 99)}, "garbage-read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &audit{began: time.Now(), first: 10}
			first := a.begin(0, a.now())
			second := a.begin(1, a.now())
			first.Ops = []isolation.Op{op(isolation.Read, "a", 5), op(isolation.Read, "b", 6), op(isolation.Write, "a", 11)}
			second.Ops = c.second
			a.end(first, isolation.Committed)
			a.end(second, isolation.Committed)
			committed, err := a.check(isolation.Serializable)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, 2, committed)
		})
	}
}
