package results

import "fmt"

// A Kind tells what the reader of a problem can do about it.
type Kind int

const (
	// Unreadable is a file that cannot be opened, or is no text of benchmarks.
	Unreadable Kind = iota
	// Syntax is a line that looks like a result and is none.
	Syntax
	// Truncated is a text that ends in the middle of a line.
	Truncated
	// Empty is a text without results.
	Empty
	// Foreign are results that are not those of this harness.
	Foreign
	// Mixed are results that come from different machines.
	Mixed
	// UnknownUnit is a unit that nobody has declared, so that nobody knows
	// which way it gets better.
	UnknownUnit
	// Failed is a benchmark or package that failed; what it would have printed is
	// missing.
	Failed
	// Interrupted is a run that ended before its last case, or whose text does.
	Interrupted
)

// Bad reports whether the text cannot be relied on. The other kinds are sound
// text of a run that is not complete.
func (k Kind) Bad() bool { return k != Failed && k != Interrupted }

// A Problem is something wrong with a text, as a sentence that names file,
// line and what was expected.
type Problem struct {
	Kind Kind
	File string
	Line int // 0: the whole file
	Text string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}
