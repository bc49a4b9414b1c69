package harness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// The text that Prometheus scrapes is written here without its client library,
// which would add five megabytes and five milliseconds of start to every test
// binary of this project, and a registry of its own behind everybody's back. The
// text needs one rule of escaping and no negotiation: every scraper accepts
// version 0.0.4. A test reads it back with the parser of that project.

// A liveServer shows the benchmark under way over HTTP.
type liveServer struct {
	address string // as bound
	server  *http.Server
	done    sync.WaitGroup
}

// liveAddress fills in what an address leaves open: the loopback interface
// unless a host is named.
func liveAddress(text string) (string, error) {
	if _, err := strconv.Atoi(text); err == nil {
		text = ":" + text
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", errors.New("want an address such as 127.0.0.1:9464, or a port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", fmt.Errorf("port %q: want a number from 0 to 65535", port)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// serveMetrics listens at once, so that a bad or taken address ends the run
// before it has measured anything.
func serveMetrics(address string, l *ledger) (*liveServer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("harness: PHANTOM_METRICS=%s: want a free address of this machine: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		l.writeMetrics(w)
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s := &liveServer{
		address: listener.Addr().String(),
		server:  &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10},
	}
	s.done.Go(func() { _ = s.server.Serve(listener) }) // returns when closed
	return s, nil
}

func (s *liveServer) close() {
	_ = s.server.Close()
	s.done.Wait()
}

// writeMetrics writes everything about the benchmark under way, or that there
// is none.
func (l *ledger) writeMetrics(out io.Writer) {
	l.mu.Lock()
	var w *watcher
	for _, one := range l.open { // at most one, for benchmarks run one by one
		w = one
	}
	finished := l.order
	l.mu.Unlock()

	e := newExposition(out)
	defer func() { _ = e.out.Flush() }() // an error means that the scraper has gone
	e.metric("phantom_build_info", "gauge", "What runs; always 1.",
		sample{labels{{"package", l.pkg}, {"go", runtime.Version()}, {"mode", string(settings().mode)}}, 1})
	e.metric("phantom_samples_total", "counter", "Benchmark lines this process has finished and kept.", sample{nil, float64(finished)})
	if w == nil {
		e.metric("phantom_running", "gauge", "Whether a benchmark is in its measured part.", sample{nil, 0})
		return
	}
	w.expose(e)
}

// liveQuantiles are those of the latency summary.
var liveQuantiles = []float64{0.5, 0.9, 0.99, 0.999, 1}

// expose writes the state of one benchmark. Series of it carry its name, so
// that a chart of several does not join them.
func (w *watcher) expose(e exposition) {
	name := label{"benchmark", w.b.Name()}
	w.mu.Lock()
	began, running := w.began, 1.0
	if w.stopped || began.IsZero() {
		running = 0
	}
	w.mu.Unlock()
	e.metric("phantom_running", "gauge", "Whether a benchmark is in its measured part.", sample{labels{name}, running})
	if began.IsZero() {
		return
	}
	e.metric("phantom_elapsed_seconds", "gauge", "Time since the measured part began.", sample{labels{name}, time.Since(began).Seconds()})

	var summary, failed []sample
	for _, t := range w.tracks {
		with := labels{name, {"kind", t.tag}}
		count, sum, values := t.pool.Quantiles(liveQuantiles)
		for i, q := range liveQuantiles {
			if count > 0 {
				quantile := label{"quantile", strconv.FormatFloat(q, 'g', -1, 64)}
				summary = append(summary, sample{labels{name, {"kind", t.tag}, quantile}, values[i].Seconds()})
			}
		}
		summary = append(summary, sample{with.sum(), sum / 1e9}, sample{with.count(), float64(count)})
		failed = append(failed, sample{with, float64(t.pool.Failed())})
	}
	if len(w.tracks) > 0 {
		e.metric("phantom_operation_latency_seconds", "summary", "Latency of operations that succeeded, since the measured part began.", summary...)
		e.metric("phantom_operation_errors_total", "counter", "Operations that failed.", failed...)
	}
	w.exposeMeters(e, name)
}

// ask returns what the system has counted: now while the run goes on, and up to
// the last interval after it, when the system may be closed, or where only the
// benchmark's goroutine may ask. Counters is called without the lock, for it may
// wait; stop waits for it in turn.
func (w *watcher) ask() (c Counters) {
	w.mu.Lock()
	now := w.spec.Counters != nil && !w.perLoop && !w.stopped
	if now {
		w.asking.Add(1)
	} else if len(w.rows) > 0 {
		c = w.rows[len(w.rows)-1].counters
	}
	w.mu.Unlock()
	if now {
		defer w.asking.Done()
		c = w.spec.Counters()
	}
	return c
}

// exposeMeters writes the system's counters and the meters as they stand.
func (w *watcher) exposeMeters(e exposition, name label) {
	e.counters(w.ask(), name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return // its meters may be closed
	}
	w.meters.Read(w.scrape)
	for i, m := range w.meters.List() {
		v := w.scrape.Values[i]
		if v != v { // NaN: absent
			continue
		}
		if m.Unit == "ns" {
			v /= 1e9
		}
		e.metric("phantom_"+metricName(m.Name, m.Unit, m.Kind == measure.Counter), string(m.Kind), "From "+m.Source+".", sample{nil, v})
	}
}

// counters writes the totals of a system that ever moved.
func (e exposition) counters(c Counters, name label) {
	for _, one := range everyCounted(&Counters{}) {
		if v := one.of(&c); v != 0 {
			e.metric("phantom_"+metricName(one.name, one.unit, true), "counter", "Total of the system since it booted.",
				sample{labels{name}, float64(v)})
		}
	}
	if len(c.Classes) == 0 {
		return
	}
	var bytes, messages []sample
	for _, class := range c.Classes {
		with := labels{name, {"class", class.Class}}
		bytes = append(bytes, sample{with, float64(class.WireBytes)})
		messages = append(messages, sample{with, float64(class.Messages)})
	}
	e.metric("phantom_class_wire_bytes_total", "counter", "Bytes on the wire by class of message.", bytes...)
	e.metric("phantom_class_messages_total", "counter", "Messages by class.", messages...)
}

// metricName makes a name by the rules of Prometheus: base units as endings,
// and _total behind what only grows.
func metricName(name, unit string, total bool) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(name))
	ending := map[string]string{"ns": "_seconds", "B": "_bytes", "Hz": "_hertz"}[unit]
	name = strings.TrimSuffix(name, ending) + ending
	if total {
		name += "_total"
	}
	return name
}
