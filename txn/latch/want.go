package latch

import "fmt"

// A Mode says what a latch is for. See the package comment for which go together.
type Mode uint8

// The modes. The zero Mode is none.
const (
	Read Mode = iota + 1
	Add
	Write
)

func (m Mode) String() string {
	switch m {
	case Read:
		return "read"
	case Add:
		return "add"
	case Write:
		return "write"
	default:
		return fmt.Sprintf("mode %d", uint8(m))
	}
}

// conflicts reports whether latches of two requests cannot be held at once.
func (m Mode) conflicts(o Mode) bool { return m != o || m == Write }

// join is the weakest mode that is as strong as both.
func (m Mode) join(o Mode) Mode {
	if m == o {
		return m
	}
	return Write
}

// A Want is one latch that is wanted. Use Point or Span.
type Want struct {
	Mode       Mode
	span       bool
	start, end string
}

// Point wants a latch on one key.
func Point(key string, mode Mode) Want { return Want{Mode: mode, start: key} }

// Span wants a latch on all keys from start up to but without end, which is behind all
// keys if it is empty.
func Span(start, end string, mode Mode) Want {
	return Want{Mode: mode, span: true, start: start, end: end}
}

func (w Want) String() string {
	switch {
	case !w.span:
		return fmt.Sprintf("%v %q", w.Mode, w.start)
	case w.end == "":
		return fmt.Sprintf("%v [%q,)", w.Mode, w.start)
	default:
		return fmt.Sprintf("%v [%q,%q)", w.Mode, w.start, w.end)
	}
}

// meets reports whether two have a key in common.
func (w Want) meets(o Want) bool { return w.reaches(o.start) && o.reaches(w.start) }

// reaches reports whether w goes on to start or beyond.
func (w Want) reaches(start string) bool {
	if w.span {
		return w.end == "" || start < w.end
	}
	return start <= w.start
}

// conflicts reports whether latches of two requests cannot be held at once.
func (w Want) conflicts(o Want) bool { return w.Mode.conflicts(o.Mode) && w.meets(o) }
