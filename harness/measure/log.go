package measure

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Log is the latencies of a run, interval by interval, in the text that the
// tools of HdrHistogram read and write (version 1.3 of its log format, payloads
// in V2 compressed encoding).
type Log struct {
	// Start is when the first interval began, in whole milliseconds.
	Start     time.Time
	Intervals []Interval
}

// An Interval is the latencies of operations that came back within it.
type Interval struct {
	// Tag names a kind of operation, as the text does: empty for all. It holds
	// no comma and no space.
	Tag string
	// From and To are counted from the Log's Start.
	From, To time.Duration
	Latency  *Histogram // nil is empty
}

// logVersion is that of the format, which readers look for.
const logVersion = hdrhistogram.HISTOGRAM_LOG_FORMAT_VERSION

// Write writes l as text. Empty intervals are written too: in a chart of the
// run they are the ones that matter.
func (l Log) Write(w io.Writer) error {
	buf := bufio.NewWriter(w)
	start := float64(l.Start.UnixMilli()) / 1e3
	fmt.Fprintf(buf, "#[Histogram log format version %s]\n", logVersion)
	fmt.Fprintf(buf, "#[StartTime: %.3f (seconds since epoch), %s]\n", start, l.Start.UTC().Format(time.RFC3339))
	fmt.Fprintf(buf, "#[BaseTime: %.3f (seconds since epoch)]\n", start)
	fmt.Fprintln(buf, `"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"`)
	for _, in := range l.Intervals {
		if strings.ContainsAny(in.Tag, ", \t\r\n") {
			return fmt.Errorf("measure: log: tag %q: want text without comma or space", in.Tag)
		}
		h := in.Latency
		if h == nil {
			h = new(Histogram)
		}
		payload, err := h.encode()
		if err != nil {
			return fmt.Errorf("measure: log: %w", err)
		}
		if in.Tag != "" {
			fmt.Fprintf(buf, "Tag=%s,", in.Tag)
		}
		// The format gives the largest value in milliseconds.
		fmt.Fprintf(buf, "%.6f,%.6f,%.6f,%s\n", in.From.Seconds(), (in.To - in.From).Seconds(),
			float64(h.Max())/1e6, payload)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("measure: log: %w", err)
	}
	return nil
}

// encode returns h in the V2 compressed encoding.
func (h *Histogram) encode() ([]byte, error) {
	if h.hdr == nil {
		return newHDR().EncodeV2()
	}
	return h.hdr.EncodeV2()
}

// maxLine bounds a line of a log: a histogram with a value in each of its
// buckets stays below.
const maxLine = 1 << 20

// ReadLog reads a log of at most limit intervals. It accepts what other tools
// write as long as the histograms fit a Histogram: values in nanoseconds from 1
// up, three significant digits. Lines of comment and the header are skipped;
// anything else is an error that names its line.
//
// The text carries buckets: of what is read, the smallest value, the mean and
// the sum are exact to three digits, the largest value of an interval as well
// as the text states it.
func ReadLog(r io.Reader, limit int) (Log, error) {
	var l Log
	var base float64 // seconds since the epoch from which stamps count
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; scan.Scan(); n++ {
		text := strings.TrimSpace(scan.Text())
		switch {
		case text == "" || strings.HasPrefix(text, `"StartTimestamp"`):
		case strings.HasPrefix(text, "#"):
			if v, ok := stamp(text, "#[StartTime:"); ok {
				l.Start = time.UnixMilli(int64(math.Round(v * 1e3)))
			}
			if v, ok := stamp(text, "#[BaseTime:"); ok {
				base = v
			}
		default:
			if len(l.Intervals) == limit {
				return Log{}, fmt.Errorf("measure: log: line %d: more than %d intervals", n, limit)
			}
			in, err := parseInterval(text)
			if err != nil {
				return Log{}, fmt.Errorf("measure: log: line %d: %w", n, err)
			}
			l.Intervals = append(l.Intervals, in)
		}
	}
	if err := scan.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return Log{}, fmt.Errorf("measure: log: a line of more than %d bytes", maxLine)
		}
		return Log{}, fmt.Errorf("measure: log: %w", err)
	}
	l.shift(base)
	return l, nil
}

// shift turns stamps that count from base into ones that count from l.Start.
// Without a base line they are absolute, as the first tools wrote them.
func (l *Log) shift(base float64) {
	if l.Start.IsZero() {
		return
	}
	by := time.Duration((base - float64(l.Start.UnixMilli())/1e3) * 1e9)
	for i := range l.Intervals {
		l.Intervals[i].From += by
		l.Intervals[i].To += by
	}
}

// stamp reads the number behind a prefix.
func stamp(text, prefix string) (float64, bool) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return 0, false
	}
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	v, err := strconv.ParseFloat(strings.TrimRight(number, "]"), 64)
	return v, err == nil && v >= 0 && v < maxStamp
}

// maxStamp is a time in seconds beyond which a time.Duration of nanoseconds
// would overflow.
const maxStamp = 9e9

func parseInterval(text string) (Interval, error) {
	var in Interval
	if rest, ok := strings.CutPrefix(text, "Tag="); ok {
		tag, behind, found := strings.Cut(rest, ",")
		if !found {
			return in, errors.New("a tag and nothing behind it: want Tag=name,start,length,max,histogram")
		}
		if strings.ContainsAny(tag, " \t") {
			return in, fmt.Errorf("tag %.40q: want text without space", tag)
		}
		in.Tag, text = tag, behind
	}
	fields := strings.Split(text, ",")
	if len(fields) != 4 {
		return in, fmt.Errorf("%d fields: want start, length, max and histogram", len(fields))
	}
	var numbers [3]float64
	for i := range numbers {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil || math.IsNaN(v) || v < 0 || v >= maxStamp {
			return in, fmt.Errorf("field %d is %.40q: want a number from 0 to %g", i+1, fields[i], maxStamp)
		}
		numbers[i] = v
	}
	in.From = time.Duration(numbers[0] * 1e9)
	in.To = in.From + time.Duration(numbers[1]*1e9)
	var err error
	in.Latency, err = decode([]byte(fields[3]), time.Duration(numbers[2]*1e6))
	return in, err
}

// decode reads a histogram whose largest value is largest, as exactly as the
// text states it.
func decode(payload []byte, largest time.Duration) (*Histogram, error) {
	hdr, err := hdrhistogram.Decode(bytes.TrimSpace(payload))
	if err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	if hdr.SignificantFigures() != digits || hdr.LowestTrackableValue() > 1 {
		return nil, fmt.Errorf("histogram of %d digits from %d up: want %d digits from 1 up",
			hdr.SignificantFigures(), hdr.LowestTrackableValue(), digits)
	}
	h := &Histogram{hdr: newHDR()}
	if lost := h.hdr.Merge(hdr); lost > 0 {
		return nil, fmt.Errorf("histogram: %d values beyond %v", lost, MaxLatency)
	}
	h.count = h.hdr.TotalCount()
	if h.count == 0 {
		return h, nil
	}
	h.min, h.max = time.Duration(h.hdr.Min()), time.Duration(h.hdr.Max())
	if h.hdr.ValuesAreEquivalent(int64(h.max), int64(min(largest, MaxLatency))) {
		h.max = largest
	}
	h.min = min(h.min, h.max)
	h.sum = h.hdr.Mean() * float64(h.count)
	return h, nil
}
