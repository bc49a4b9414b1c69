package isolation

import (
	"fmt"
	"strings"
)

// How many elements are shown of what may be long: a list, the operations of a
// transaction, a cycle. Of more, the first and the last are, and how many are not.
const maxShown = 24

// ends returns where the first part of so many ends that is shown, and where the last
// one begins.
func ends(n int) (head, tail int) {
	if n <= maxShown {
		return n, n
	}
	return maxShown / 2, n - maxShown/2
}

// A brief list shows its ends.
type brief []uint64

func (l brief) String() string {
	head, tail := ends(len(l))
	text := fmt.Sprint([]uint64(l[:head]))
	if tail > head {
		text = fmt.Sprintf("%s ... %d more ... %s", strings.TrimSuffix(text, "]"), tail-head, strings.TrimPrefix(fmt.Sprint([]uint64(l[tail:])), "["))
	}
	return text
}
