package hlc

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A Timestamp is a moment with a count: microseconds since 1970 in the upper 52 bits,
// which last until 2112, and below them what tells events of one microsecond apart. A
// count that runs over moves into the next microsecond. Timestamps compare as numbers;
// zero is before all others.
type Timestamp uint64

// countBits is how many bits tell events of one microsecond apart.
const countBits = 12

// Max is behind all timestamps that a clock tells.
const Max = ^Timestamp(0)

// At is the first timestamp of a moment. Moments before 1970 are zero, and those that
// are too late Max.
func At(t time.Time) Timestamp {
	switch us := t.UnixMicro(); {
	case us < 0:
		return 0
	case us > int64(Max>>countBits):
		return Max
	default:
		return Timestamp(us) << countBits
	}
}

// Time is the moment of a timestamp, to the microsecond.
func (t Timestamp) Time() time.Time { return time.UnixMicro(int64(t >> countBits)) }

// Add is the timestamp that is so much later, or earlier, with the same count. It ends
// at zero and at Max.
func (t Timestamp) Add(d time.Duration) Timestamp {
	if d < 0 {
		return t - min(t, span(-d))
	}
	return t + min(Max-t, span(d))
}

// span is how much of a timestamp so much time is. Of what is longer than all timestamps
// last, it is all of them.
func span(d time.Duration) Timestamp {
	if us := Timestamp(d / time.Microsecond); d >= 0 && us <= Max>>countBits {
		return us << countBits
	}
	return Max
}

// Sub is the time between two timestamps, to the microsecond. It is negative if t is
// before o.
func (t Timestamp) Sub(o Timestamp) time.Duration {
	return time.Duration(int64(t>>countBits)-int64(o>>countBits)) * time.Microsecond
}

// Next is the timestamp right behind t.
func (t Timestamp) Next() Timestamp { return t + min(1, Max-t) }

// Prev is the timestamp right before t.
func (t Timestamp) Prev() Timestamp { return t - min(1, t) }

// String shows seconds since 1970 and the count.
func (t Timestamp) String() string {
	us := uint64(t >> countBits)
	return fmt.Sprintf("%d.%06d+%d", us/1e6, us%1e6, uint64(t)&(1<<countBits-1))
}

// Size is that of an encoded timestamp, in bytes.
const Size = 8

// AppendDescending appends an encoding whose order as bytes is the reverse of that of
// timestamps, so that the latest version of a key comes first.
func (t Timestamp) AppendDescending(b []byte) []byte {
	return binary.BigEndian.AppendUint64(b, ^uint64(t))
}

// Descending decodes what AppendDescending wrote.
func Descending(b []byte) (Timestamp, error) {
	if len(b) != Size {
		return 0, fmt.Errorf("hlc: timestamp of %d bytes, expected %d", len(b), Size)
	}
	return Timestamp(^binary.BigEndian.Uint64(b)), nil
}
