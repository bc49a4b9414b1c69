package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Bounds of a recorded schedule: 32 MiB in memory, and lines that a terminal
// could still show when one of them is wrong.
const (
	maxRecorded = 4 << 20
	maxLine     = 4 << 10
)

// A Recorded schedule repeats starts that were recorded.
type Recorded struct {
	starts []time.Duration
	round  time.Duration // from the first start to that of the repetition
}

// Replay reads a recorded schedule: a line for each start, counted from the
// begin of the record, as a duration with its unit ("1.25s", "300us"). Starts
// must not go backwards. Empty lines and those that begin with # do not count.
//
// A run longer than the record repeats it, at a distance of its mean gap. There
// must be two different starts at least, and at most 4,194,304. An error names
// the line and what was expected.
func Replay(r io.Reader) (Recorded, error) {
	var rec Recorded
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for in.Scan() {
		n++
		text := strings.TrimSpace(in.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		d, err := time.ParseDuration(text)
		switch last := len(rec.starts) - 1; {
		case err != nil:
			return Recorded{}, fmt.Errorf("load: replay: line %d: %.80q: want a duration with its unit, such as 1.25s", n, text)
		case d < 0 || d > maxRecord:
			return Recorded{}, fmt.Errorf("load: replay: line %d: a start at %v: want 0 to %v", n, d, maxRecord)
		case last >= 0 && d < rec.starts[last]:
			return Recorded{}, fmt.Errorf("load: replay: line %d: a start at %v behind one at %v: want none earlier", n, d, rec.starts[last])
		case len(rec.starts) == maxRecorded:
			return Recorded{}, fmt.Errorf("load: replay: line %d: more than %d starts: want fewer", n, maxRecorded)
		}
		rec.starts = append(rec.starts, d)
	}
	if err := in.Err(); errors.Is(err, bufio.ErrTooLong) {
		return Recorded{}, fmt.Errorf("load: replay: line %d: more than %d bytes: want a duration", n+1, maxLine)
	} else if err != nil {
		return Recorded{}, fmt.Errorf("load: replay: line %d: %w", n+1, err)
	}
	return rec.close()
}

// maxRecord bounds the length of a record, so that its repetitions cannot
// overflow within a run.
const maxRecord = 30 * 24 * time.Hour

// close adds what follows from the starts.
func (s Recorded) close() (Recorded, error) {
	n := len(s.starts)
	if n < 2 || s.starts[n-1] == s.starts[0] {
		return Recorded{}, fmt.Errorf("load: replay: %d starts, all at one moment: want two moments or more", n)
	}
	length := s.starts[n-1] - s.starts[0]
	s.round = length + max(length/time.Duration(n-1), 1)
	return s, nil
}

// Len returns the number of starts in the record.
func (s Recorded) Len() int { return len(s.starts) }

// Rate returns the mean rate of the record.
func (s Recorded) Rate() float64 { return float64(len(s.starts)) / s.round.Seconds() }

// Check refuses a Recorded that Replay did not return.
func (s Recorded) Check() error {
	if len(s.starts) == 0 {
		return errors.New("load: replay: the zero value: want the result of Replay")
	}
	return nil
}

// String returns "replay".
func (s Recorded) String() string { return "replay" }

// Starts repeats the record. It has its own length and nothing random.
func (s Recorded) Starts(time.Duration, uint64) Starts {
	i, base := 0, time.Duration(0)
	return func() time.Duration {
		if i == len(s.starts) {
			i, base = 0, base+s.round
		}
		i++
		return base + s.starts[i-1]
	}
}
