package harness

import (
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// scrape fetches the metrics as a scraper does and reads them with the parser
// of Prometheus.
func scrape(t testing.TB, address string) map[string]*dto.MetricFamily {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/plain; version=0.0.4; charset=utf-8", resp.Header.Get("Content-Type"))
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return parseMetrics(t, string(text))
}

func parseMetrics(t testing.TB, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(t, err, text)
	for name, f := range families {
		require.True(t, strings.HasPrefix(name, "phantom_"), name)
		require.NotEmpty(t, f.GetHelp(), name)
		require.NotEqual(t, dto.MetricType_UNTYPED, f.GetType(), name)
		require.Equal(t, f.GetType() == dto.MetricType_COUNTER, strings.HasSuffix(name, "_total"), name)
	}
	return families
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Metrics are there while the run goes on, and grow.
func TestMetricsWhileARunGoesOn(t *testing.T) {
	l := keeping(t, &ledger{pkg: "example.org/x"})
	live, err := serveMetrics("127.0.0.1:0", l)
	require.NoError(t, err)
	l.live = live
	defer l.close()

	idle := scrape(t, live.address)
	require.Zero(t, idle["phantom_running"].GetMetric()[0].GetGauge().GetValue())
	require.Equal(t, "example.org/x", labelOf(idle["phantom_build_info"].GetMetric()[0], "package"))

	var during []map[string]*dto.MetricFamily
	var fsyncs atomic.Int64
	var result Result
	_, failed := bench(t, "400x", func(b *testing.B) {
		result = Run(b, Spec{
			Clients: 2, Warmup: 50, Counters: func() Counters {
				n := fsyncs.Load()
				return Counters{Fsyncs: n, Classes: []ClassCounters{{"control", n, 2 * n}, {"bulk", 0, 0}}}
			},
		}, func(c *Client) error {
			fsyncs.Add(1)
			if c.ID == 0 && (c.Iter == 60 || c.Iter == 120) {
				during = append(during, scrape(t, live.address))
			}
			if c.Iter%10 == 3 {
				return io.EOF
			}
			time.Sleep(100 * time.Microsecond)
			return nil
		})
	})
	require.False(t, failed)
	require.GreaterOrEqual(t, len(during), 1)
	require.GreaterOrEqual(t, result.Errors, int64(30))
	before := 0.0
	for _, m := range during {
		require.InDelta(t, 1, m["phantom_running"].GetMetric()[0].GetGauge().GetValue(), 0)
		latency := m["phantom_operation_latency_seconds"].GetMetric()[0].GetSummary()
		require.Positive(t, latency.GetSampleCount(), "also what no client has flushed")
		require.Less(t, latency.GetSampleCount(), uint64(400), "the warm-up is not in it")
		require.GreaterOrEqual(t, latency.GetSampleSum(), float64(latency.GetSampleCount())*100e-6)
		require.Len(t, latency.GetQuantile(), len(liveQuantiles))
		for i, q := range latency.GetQuantile() {
			require.InDelta(t, liveQuantiles[i], q.GetQuantile(), 0)
			require.GreaterOrEqual(t, q.GetValue(), 100e-6)
		}
		count := m["phantom_fsyncs_total"].GetMetric()[0].GetCounter().GetValue()
		require.Greater(t, count, before)
		classes := m["phantom_class_messages_total"].GetMetric()
		require.Equal(t, "control", labelOf(classes[0], "class"))
		require.InDelta(t, 2*count, classes[0].GetCounter().GetValue(), 1)
		require.Zero(t, classes[1].GetCounter().GetValue())
		require.Contains(t, m, "phantom_class_wire_bytes_total")
		before = count
		require.Positive(t, m["phantom_goroutines"].GetMetric()[0].GetGauge().GetValue())
		require.Contains(t, m, "phantom_allocated_bytes_total")
		require.Contains(t, m, "phantom_operation_errors_total")
	}
	require.Zero(t, scrape(t, live.address)["phantom_running"].GetMetric()[0].GetGauge().GetValue())
}

// Nothing is told that is not known: no quantile before the first operation, no
// meter whose file has gone, no meters after the run.
func TestMetricsAreAbsentRatherThanZero(t *testing.T) {
	l := keeping(t, &ledger{})
	metrics := func() map[string]*dto.MetricFamily {
		var text strings.Builder
		l.writeMetrics(&text)
		return parseMetrics(t, text.String())
	}
	_, failed := bench(t, "1x", func(b *testing.B) {
		for b.Loop() {
		}
		var pool measure.Pool
		pool.Watch()
		m := startMeter(b, &Spec{}, track{pool: &pool})
		latency := metrics()["phantom_operation_latency_seconds"].GetMetric()[0].GetSummary()
		require.Zero(b, latency.GetSampleCount())
		require.Empty(b, latency.GetQuantile())
		require.Contains(b, metrics(), "phantom_goroutines")
		require.NoError(b, m.watcher.meters.Close())
		require.NotContains(b, metrics(), "phantom_rss_bytes")
		m.stop()
		require.NotContains(b, metrics(), "phantom_goroutines")
		require.Zero(b, metrics()["phantom_running"].GetMetric()[0].GetGauge().GetValue())
	})
	require.False(t, failed)
}

// A benchmark closes its system once its run has ended: a scrape asks it nothing
// from then on, and one that is asking is waited for.
func TestScrapesLeaveAClosedSystemAlone(t *testing.T) {
	l := keeping(t, &ledger{})
	metrics := func() map[string]*dto.MetricFamily {
		var text strings.Builder
		l.writeMetrics(&text)
		return parseMetrics(t, text.String())
	}
	var closed, waits atomic.Bool
	asked, answer := make(chan struct{}), make(chan struct{})
	spec := Spec{Counters: func() Counters {
		require.False(t, closed.Load())
		if waits.CompareAndSwap(true, false) {
			close(asked)
			<-answer
		}
		return Counters{Fsyncs: 7}
	}}
	inBubble(t, "1x", func(b *testing.B) {
		asked, answer = make(chan struct{}), make(chan struct{})
		for b.Loop() {
		}
		m := startMeter(b, &spec)
		require.Contains(b, metrics(), "phantom_fsyncs_total")
		waits.Store(true)
		var scraped sync.WaitGroup
		scraped.Go(func() { metrics() })
		<-asked
		go func() {
			m.stop()
			closed.Store(true)
		}()
		synctest.Wait()
		require.False(b, closed.Load(), "somebody is asking")
		close(answer)
		scraped.Wait()
		synctest.Wait()
		require.True(b, closed.Load())
		require.InDelta(b, 7, metrics()["phantom_fsyncs_total"].GetMetric()[0].GetCounter().GetValue(), 0, "as the run left it")
	})
}

// Two scrapes and the run at once; with -race this shows what is shared.
func TestManyScrapes(t *testing.T) {
	l := keeping(t, &ledger{})
	live, err := serveMetrics("127.0.0.1:0", l)
	require.NoError(t, err)
	l.live = live
	defer l.close()
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				l.writeMetrics(io.Discard)
			}
		}
	}()
	for range 3 {
		_, failed := bench(t, "20000x", func(b *testing.B) {
			Run(b, Spec{Clients: 4}, func(*Client) error { return nil })
		})
		require.False(t, failed)
		_, failed = bench(t, "20x", func(b *testing.B) {
			replaced := 0
			Events(b, Spec{Counters: func() Counters { return Counters{Fsyncs: int64(replaced)} }},
				func(int) (Event, error) { replaced++; return Event{Took: 1}, nil })
		})
		require.False(t, failed)
	}
	close(done)
	<-ended
}

func TestLiveAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"9464": "127.0.0.1:9464", ":9464": "127.0.0.1:9464", "0.0.0.0:1": "0.0.0.0:1", "[::1]:80": "[::1]:80", "localhost:0": "localhost:0",
	} {
		got, err := liveAddress(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for text, want := range map[string]string{
		"localhost": "want an address such as", "a:b:c": "want an address such as",
		"localhost:http": `port "http": want a number`, ":65536": "want a number from 0 to 65535", "-1": "want a number", "": "want an address",
	} {
		_, err := liveAddress(text)
		require.ErrorContains(t, err, want, text)
	}
}

// A taken address ends the run before anything is measured; a free one is named.
func TestLiveAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := taken.Addr().String()
	stdout, stderr, status := child(t, "lone", []string{"PHANTOM_METRICS=" + address}, append(benchArgs, "-test.benchtime=1x")...)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "harness: PHANTOM_METRICS="+address+": want a free address of this machine: ")
	require.Empty(t, results(t, stdout))
	require.NoError(t, taken.Close())

	stdout, stderr, status = child(t, "lone", []string{"PHANTOM_METRICS=" + address}, append(benchArgs, "-test.benchtime=1x")...)
	require.Zero(t, status, stderr)
	require.Contains(t, stderr, "# harness: live metrics at http://"+address+"/metrics")
	require.Len(t, results(t, stdout), 1)
	_, stderr, status = child(t, "clean", []string{"PHANTOM_METRICS=nowhere"}, "-test.run=^TestChild$")
	require.Equal(t, 2, status)
	require.Contains(t, stderr, `harness: PHANTOM_METRICS="nowhere": want an address`)
}

func TestProfilesAreServed(t *testing.T) {
	l := keeping(t, &ledger{})
	live, err := serveMetrics("127.0.0.1:0", l)
	require.NoError(t, err)
	defer live.close()
	for path, want := range map[string]int{"/debug/pprof/goroutine?debug=1": 200, "/nothing": 404} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+live.address+path, nil)
		require.NoError(t, err)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.Equal(t, want, resp.StatusCode, path)
		require.NoError(t, resp.Body.Close())
	}
}

// Whatever a label or a help text holds, the parser reads it back.
func TestExpositionEscapes(t *testing.T) {
	var text strings.Builder
	buf := newExposition(&text)
	odd := "a\"b\\c\nd{e=\"f\"}\xff,"
	buf.metric("phantom_odd", "gauge", "Help with \\ and\na break.",
		sample{labels{{"benchmark", odd}, {"kind", ""}}, math.Inf(1)}, sample{nil, math.NaN()}, sample{labels{{"kind", "x"}}, -1.5e-300})
	buf.metric("phantom_s_seconds", "summary", "S.",
		sample{labels{{"kind", "x"}, {"quantile", "0.5"}}, 3}, sample{labels{{"kind", "x"}}.sum(), 7}, sample{labels{{"kind", "x"}}.count(), 2})
	require.NoError(t, buf.out.Flush())
	families := parseMetrics(t, text.String())
	f := families["phantom_odd"]
	require.Equal(t, "Help with \\ and\na break.", f.GetHelp())
	require.Equal(t, strings.ToValidUTF8(odd, "?"), labelOf(f.GetMetric()[0], "benchmark"))
	require.True(t, math.IsInf(f.GetMetric()[0].GetGauge().GetValue(), 1))
	require.True(t, math.IsNaN(f.GetMetric()[1].GetGauge().GetValue()))
	require.InDelta(t, -1.5e-300, f.GetMetric()[2].GetGauge().GetValue(), 0)
	s := families["phantom_s_seconds"].GetMetric()[0].GetSummary()
	require.EqualValues(t, 2, s.GetSampleCount())
	require.InDelta(t, 7, s.GetSampleSum(), 0)
	require.InDelta(t, 3, s.GetQuantile()[0].GetValue(), 0)
}

func TestMetricNames(t *testing.T) {
	for _, c := range []struct {
		name, unit string
		total      bool
		want       string
	}{
		{"heap-live", "B", false, "heap_live_bytes"},
		{"disk-bytes", "B", true, "disk_bytes_total"},
		{"cpu-user", "ns", true, "cpu_user_seconds_total"},
		{"cpu0-frequency", "Hz", false, "cpu0_frequency_hertz"},
		{"messages-Über 1", "1", true, "messages__ber_1_total"},
	} {
		require.Equal(t, c.want, metricName(c.name, c.unit, c.total))
	}
}
