package load

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A Kind is one kind of operation in a mix.
type Kind struct {
	// Name is a value in a benchmark's name, as in kind=read8: lower-case
	// letters, digits and hyphens, and no hyphen before digits at the end, which
	// would be read as the number of processors.
	Name string
	// Weight is the kind's share of the operations, over the sum of all
	// weights. It is at least 1.
	Weight int
}

// maxKinds bounds a mix: each kind of each client has a buffer of latencies.
const maxKinds = 32

// maxWeight keeps the sum of all weights within an int of 32 bits.
const maxWeight = 1_000_000

// A Mix draws kinds of operations by their weights. The zero value has no
// kinds.
type Mix struct {
	kinds []Kind
	total int
}

// NewMix returns a mix of 1 to 32 kinds with different names.
func NewMix(kinds ...Kind) (Mix, error) {
	if len(kinds) == 0 || len(kinds) > maxKinds {
		return Mix{}, fmt.Errorf("load: mix: %d kinds: want 1 to %d", len(kinds), maxKinds)
	}
	m := Mix{kinds: append([]Kind(nil), kinds...)}
	seen := map[string]bool{}
	for _, k := range kinds {
		if !validWord(k.Name) {
			return Mix{}, fmt.Errorf("load: mix: kind %q: want lower-case letters, digits and hyphens", k.Name)
		}
		if endsLikeProcs(k.Name) {
			return Mix{}, fmt.Errorf("load: mix: kind %q: want a name that does not end in a hyphen and digits, which stand for processors", k.Name)
		}
		if seen[k.Name] {
			return Mix{}, fmt.Errorf("load: mix: kind %q: appears twice, want different names", k.Name)
		}
		if k.Weight < 1 || k.Weight > maxWeight {
			return Mix{}, fmt.Errorf("load: mix: kind %q: a weight of %d: want 1 to %d", k.Name, k.Weight, maxWeight)
		}
		seen[k.Name] = true
		m.total += k.Weight
	}
	return m, nil
}

func validWord(s string) bool {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return s != ""
}

// endsLikeProcs reports whether a name ends as those do to which package testing
// appends GOMAXPROCS; on one processor it appends nothing, and nobody can tell.
func endsLikeProcs(name string) bool {
	rest := strings.TrimRight(name, "0123456789")
	return len(rest) < len(name) && strings.HasSuffix(rest, "-")
}

// Len returns the number of kinds.
func (m Mix) Len() int { return len(m.kinds) }

// Kind returns the i-th kind, in the order given.
func (m Mix) Kind(i int) Kind { return m.kinds[i] }

// Pick draws a kind and returns its index. m must not be the zero value.
func (m Mix) Pick(r *rand.Rand) int {
	n := r.IntN(m.total)
	for i := range m.kinds {
		if n -= m.kinds[i].Weight; n < 0 {
			return i
		}
	}
	panic(fmt.Sprintf("load: mix: weights of %v do not add up to %d", m.kinds, m.total))
}
