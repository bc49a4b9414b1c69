package measure

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
)

func someLog() Log {
	a, b := new(Histogram), new(Histogram)
	for i := 1; i <= 1000; i++ {
		a.Record(time.Duration(i) * time.Microsecond)
	}
	b.Record(1_234_567_891)
	return Log{
		Start: time.UnixMilli(1_777_000_000_123),
		Intervals: []Interval{
			{From: 0, To: 100 * time.Millisecond, Latency: a},
			{Tag: "read", From: 100 * time.Millisecond, To: 250 * time.Millisecond, Latency: b},
			{From: 250 * time.Millisecond, To: 300 * time.Millisecond, Latency: new(Histogram)},
			{From: 300 * time.Millisecond, To: 400 * time.Millisecond},
		},
	}
}

func TestLogSurvivesTheText(t *testing.T) {
	want := someLog()
	var text bytes.Buffer
	require.NoError(t, want.Write(&text))
	got, err := ReadLog(&text, 4)
	require.NoError(t, err)
	require.True(t, want.Start.Equal(got.Start), "%v", got.Start)
	require.Len(t, got.Intervals, 4)
	for i, in := range got.Intervals {
		w := want.Intervals[i]
		require.Equal(t, w.Tag, in.Tag)
		require.InDelta(t, w.From, in.From, 1000)
		require.InDelta(t, w.To, in.To, 1000)
		if w.Latency == nil {
			require.Zero(t, in.Latency.Count())
			continue
		}
		require.Equal(t, w.Latency.Count(), in.Latency.Count())
		require.Equal(t, w.Latency.Max(), in.Latency.Max(), "the text states it exactly")
		if w.Latency.Count() > 0 {
			require.InEpsilon(t, w.Latency.Mean(), in.Latency.Mean(), 0.001)
			near(t, w.Latency.Min(), in.Latency.Min())
			near(t, w.Latency.Quantile(0.9), in.Latency.Quantile(0.9))
		}
	}
}

// The library's own reader, which is what other tools of the family do, reads
// the same intervals.
func TestLogIsReadByTheLibrary(t *testing.T) {
	want := someLog()
	var text bytes.Buffer
	require.NoError(t, want.Write(&text))
	r := hdrhistogram.NewHistogramLogReader(&text)
	for _, w := range want.Intervals {
		h, err := r.NextIntervalHistogram()
		require.NoError(t, err)
		require.NotNil(t, h)
		require.Equal(t, w.Tag, h.Tag())
		require.InDelta(t, want.Start.Add(w.From).UnixMilli(), h.StartTimeMs(), 1)
		require.InDelta(t, want.Start.Add(w.To).UnixMilli(), h.EndTimeMs(), 1)
		if w.Latency != nil {
			require.Equal(t, w.Latency.Count(), h.TotalCount())
		}
	}
	h, err := r.NextIntervalHistogram()
	require.NoError(t, err)
	require.Nil(t, h)
}

// The same text in the other form of the format: stamps that count from the
// epoch and no line for the base.
func TestLogWithAbsoluteStamps(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, Log{Start: time.Unix(1000, 0), Intervals: []Interval{{To: time.Second}}}.Write(&text))
	absolute := strings.Replace(text.String(), "\n0.000000,", "\n1000.500000,", 1)
	absolute = strings.Replace(absolute, "#[BaseTime: 1000.000 (seconds since epoch)]\n", "", 1)
	got, err := ReadLog(strings.NewReader(absolute), 1)
	require.NoError(t, err)
	require.Equal(t, 500*time.Millisecond, got.Intervals[0].From.Round(time.Millisecond))
	require.Equal(t, 1500*time.Millisecond, got.Intervals[0].To.Round(time.Millisecond))
}

// A largest value that the histogram contradicts is not believed.
func TestLogWithAWrongMaximum(t *testing.T) {
	var h Histogram
	h.Record(time.Millisecond)
	var text bytes.Buffer
	require.NoError(t, Log{Intervals: []Interval{{To: time.Second, Latency: &h}}}.Write(&text))
	require.Contains(t, text.String(), "1.000000,1.000000,") // length in s, maximum in ms
	wrong := strings.Replace(text.String(), "1.000000,1.000000,", "1.000000,77.000000,", 1)
	got, err := ReadLog(strings.NewReader(wrong), 1)
	require.NoError(t, err)
	near(t, time.Millisecond, got.Intervals[0].Latency.Max())
}

func TestLogRefusesTags(t *testing.T) {
	require.ErrorContains(t, Log{Intervals: []Interval{{Tag: "a,b"}}}.Write(&bytes.Buffer{}), `tag "a,b"`)
}

func TestHostileLogs(t *testing.T) {
	payload := func(h *hdrhistogram.Histogram) string {
		p, err := h.EncodeV2()
		require.NoError(t, err)
		return string(p)
	}
	beyond := hdrhistogram.New(1, int64(24*time.Hour), digits)
	require.NoError(t, beyond.RecordValue(int64(5*time.Hour)))
	good := payload(newHDR())
	for _, c := range []struct{ name, text, want string }{
		{"binary", "\x7fELF\x00\n", "line 1: 1 fields"},
		{"words", "#[Histogram]\nhello,world\n", "line 2: 2 fields: want start, length, max and histogram"},
		{"tag alone", "Tag=x\n", "line 1: a tag and nothing behind it"},
		{"negative", "-1,1,1," + good, "field 1 is \"-1\": want a number from 0"},
		{"not a number", "0,NaN,1," + good, "field 2"},
		{"too late", "1e300,1,1," + good, "field 1"},
		{"truncated", "0,1,1," + good[:len(good)-5], "line 1: histogram"},
		{"not base64", "0,1,1,%%%%", "line 1: histogram"},
		{"two digits", "0,1,1," + payload(hdrhistogram.New(1, 1000, 2)), "2 digits from 1 up: want 3"},
		{"coarse", "0,1,1," + payload(hdrhistogram.New(1000, 1_000_000, 3)), "want 3 digits from 1 up"},
		{"beyond", "0,1,1," + payload(beyond), "1 values beyond 1h0m0s"},
		{"long line", strings.Repeat("x", maxLine+1), "a line of more than"},
		{"too many", strings.Repeat("0,1,0,"+good+"\n", 3), "line 3: more than 2 intervals"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadLog(strings.NewReader(c.text), 2)
			require.ErrorContains(t, err, "measure: log: ")
			require.ErrorContains(t, err, c.want)
		})
	}
}

// Whatever stands there, reading ends with a log or an error, and a log that
// was read can be written.
func FuzzReadLog(f *testing.F) {
	var text bytes.Buffer
	require.NoError(f, someLog().Write(&text))
	f.Add(text.Bytes())
	f.Add([]byte("Tag=a,0,1,2,HISTFAAA\n#[StartTime: 9e9\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ReadLog(bytes.NewReader(data), 10)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(l.Intervals), 10)
		require.NoError(t, l.Write(&bytes.Buffer{}))
	})
}
