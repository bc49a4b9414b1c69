package isolation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Level is an isolation level. Each forbids what the ones before it forbid.
type Level uint8

// The levels.
const (
	ReadCommitted Level = iota
	Snapshot
	Serializable
	StrictSerializable
)

func (l Level) String() string {
	return [...]string{"read committed", "snapshot", "serializable", "strict serializable"}[l]
}

// A Name is that of a kind of anomaly.
type Name string

// The anomalies. Those that are cycles come with realtime as well.
const (
	GarbageRead       Name = "garbage-read"
	DuplicateElements Name = "duplicate-elements"
	IncompatibleOrder Name = "incompatible-order"
	Internal          Name = "internal"
	G0                Name = "G0"
	G1a               Name = "G1a"
	G1b               Name = "G1b"
	G1c               Name = "G1c"
	LostUpdate        Name = "lost-update"
	GSingle           Name = "G-single"
	GNonadjacent      Name = "G-nonadjacent"
	G2Item            Name = "G2-item"
)

const realtime = "-realtime"

// Realtime is the name of an anomaly that only the order of real time makes one.
func (n Name) Realtime() Name { return n + realtime }

// Breaks is the weakest level that forbids an anomaly.
func (n Name) Breaks() Level {
	if strings.HasSuffix(string(n), realtime) {
		return StrictSerializable
	}
	switch n {
	case LostUpdate, GSingle, GNonadjacent:
		return Snapshot
	case G2Item:
		return Serializable
	}
	return ReadCommitted
}

// A Step is an edge of a cycle, from one transaction to the next.
type Step struct {
	Txn  int    // its number in the history
	Kind string // ww, wr, rw, rt
	Key  string // none for rt
}

// An Anomaly is what no execution at some level can show.
type Anomaly struct {
	Name Name
	// Txn and Why say what is wrong with one transaction, and Cycle what with many:
	// its last step leads back to the first transaction.
	Txn   int
	Why   string
	Cycle []Step
}

func (a Anomaly) String() string {
	if len(a.Cycle) == 0 {
		return fmt.Sprintf("%s: T%d %s", a.Name, a.Txn, a.Why)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", a.Name)
	head, tail := ends(len(a.Cycle))
	for i := 0; i < len(a.Cycle); i++ {
		if i == head {
			fmt.Fprintf(&b, " ... %d more ...", tail-head)
			i = tail
		}
		s := &a.Cycle[i]
		fmt.Fprintf(&b, " T%d -%s", s.Txn, s.Kind)
		if s.Key != "" {
			fmt.Fprintf(&b, "(%s)", s.Key)
		}
		b.WriteString("->")
	}
	fmt.Fprintf(&b, " T%d", a.Cycle[0].Txn)
	return b.String()
}

// A Report is what came of a check.
type Report struct {
	Level     Level
	Txns      int // that committed
	Ops       int // of those
	Edges     int
	Anomalies []Anomaly // that were found, whether the level forbids them or not
	// More is how many were found that are not in Anomalies, which has the first few of
	// each name.
	More map[Name]int
}

// The most that is reported of each name.
const maxOfName = 8

// room reports whether there is room for one more of a name, and counts it if not.
func (r *Report) room(name Name) bool {
	same := 0
	for i := range r.Anomalies {
		if r.Anomalies[i].Name == name {
			same++
		}
	}
	if same < maxOfName {
		return true
	}
	if r.More == nil {
		r.More = map[Name]int{}
	}
	r.More[name]++
	return false
}

// Violations are the anomalies that the level forbids.
func (r *Report) Violations() []Anomaly {
	return slices.DeleteFunc(slices.Clone(r.Anomalies), func(a Anomaly) bool { return a.Name.Breaks() > r.Level })
}

// Err returns an error that tells the violations, nil if there are none. It is a page at
// most, however much is wrong.
func (r *Report) Err() error {
	list := r.Violations()
	if len(list) == 0 {
		return nil
	}
	var b strings.Builder
	for _, a := range list {
		b.WriteString("\n\t" + a.String())
	}
	found := len(list)
	for _, name := range slices.Sorted(maps.Keys(r.More)) {
		if name.Breaks() <= r.Level {
			found += r.More[name]
			fmt.Fprintf(&b, "\n\t%s: %d more", name, r.More[name])
		}
	}
	return fmt.Errorf("isolation: not %v: %d anomalies in %d transactions%s", r.Level, found, r.Txns, b.String())
}
