package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// quiet is how long a command may run before it says anything.
	quiet = 2 * time.Second
	// refresh is how often the live line is written.
	refresh = 250 * time.Millisecond
	// remind is how often a line is written where nothing can be overwritten:
	// a log that people scroll through.
	remind = 15 * time.Second
)

// A progress tells people on standard error how far a run is.
type progress struct {
	c     *console
	start time.Time
	stop  chan struct{}
	done  sync.WaitGroup

	mu     sync.Mutex
	what   string // before the cases are known
	cases  []benchCase
	times  int           // samples of each case
	plan   time.Duration // estimate of all samples
	at     int           // index of the case that runs
	seen   int           // samples of it that are done
	rows   int           // samples done in all
	passed time.Duration // the part of plan that they were
	began  time.Time     // of the first case
	shown  bool          // a live line stands on the terminal
}

// startProgress begins to tell, after a while, what the command is doing.
func startProgress(c *console, what string) *progress {
	p := &progress{c: c, start: time.Now(), stop: make(chan struct{}), what: what}
	p.done.Go(p.loop)
	return p
}

// loop writes until close is called.
func (p *progress) loop() {
	interval := remind
	if p.c.live {
		interval = refresh
	}
	t := time.NewTimer(quiet)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.show()
			t.Reset(interval)
		case <-p.stop:
			return
		}
	}
}

// close ends the telling and clears the live line.
func (p *progress) close() {
	close(p.stop)
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.c.err, "\r\x1b[K")
		p.shown = false
	}
}

// begin tells which cases are to come, each so many times.
func (p *progress) begin(cases []benchCase, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cases, p.times, p.plan, p.began = cases, times, total(cases, times), time.Now()
}

// row notes a benchmark line of a package.
func (p *progress) row(pkg, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.find(pkg, name)
	if i < 0 && p.ofKind(pkg, name) {
		return
	}
	p.rows++
	if i < 0 {
		return
	}
	if p.seen++; i != p.at {
		p.at, p.seen = i, 1
	}
	p.passed = total(p.cases[:i], p.times) + total(p.cases[i:i+1], p.seen)
	if p.seen >= p.times && p.at+1 < len(p.cases) {
		p.at, p.seen = p.at+1, 0
	}
}

// find returns the index of a case, looking forward first: names repeat only
// where a case is measured on several numbers of processors.
func (p *progress) find(pkg, name string) int {
	for k := range p.cases {
		i := (p.at + k) % len(p.cases)
		if b := p.cases[i]; (b.pkg == pkg || b.pkg == "") && sameCase(name, b.name) {
			return i
		}
	}
	return -1
}

// ofKind reports whether a line tells of one kind of operation within a sample
// of a mix, which has a line of its own.
func (p *progress) ofKind(pkg, name string) bool {
	i := strings.LastIndex(name, "/kind=")
	return i > 0 && p.find(pkg, name[:i]) >= 0
}

// sameCase reports whether a name on a line, which may end in the number of
// processors, is that of a case.
func sameCase(line, name string) bool {
	rest, ok := strings.CutPrefix(line, name)
	return ok && (rest == "" || rest[0] == '-' && strings.Trim(rest[1:], "0123456789") == "")
}

// remark writes a line that stays, above the live one.
func (p *progress) remark(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.c.err, text)
}

// counts returns how many samples are done, of how many.
func (p *progress) counts() (rows, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rows, max(len(p.cases)*p.times, p.rows)
}

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.what + " " + clock(time.Since(p.start))
	if p.cases != nil {
		text = p.line()
	}
	if !p.c.live {
		fmt.Fprintln(p.c.err, text)
		return
	}
	if utf8.RuneCountInString(text) > p.c.width-1 {
		text = string([]rune(text)[:p.c.width-1])
	}
	fmt.Fprint(p.c.err, "\r\x1b[K"+text)
	p.shown = true
}

// line is the state of a run: how many, how long, how long to go, and what.
func (p *progress) line() string {
	all := max(len(p.cases)*p.times, p.rows)
	elapsed := time.Since(p.began)
	// The estimate is corrected by what the cases done so far really took.
	left := p.plan - p.passed
	if p.passed > 0 {
		left = time.Duration(float64(left) * float64(elapsed) / float64(p.passed))
	}
	now := ""
	if p.at < len(p.cases) && p.rows < all {
		now = "  " + shortCase(p.cases[p.at])
	}
	return fmt.Sprintf("[%d/%d] %s, about %s to go%s", min(p.rows+1, all), all, clock(elapsed), clock(left), now)
}

// shortCase names a case without what all names have in common.
func shortCase(b benchCase) string {
	return shortPackage(b.pkg) + " " + strings.TrimPrefix(b.name, "Benchmark")
}

// module is the module whose packages are named by their folders.
const module = "github.com/phantomdb/phantomdb"

// shortPackage is the path below this module.
func shortPackage(pkg string) string {
	if rest, ok := strings.CutPrefix(pkg, module); ok {
		return strings.TrimPrefix(strings.TrimPrefix(rest, "/"), "harness/")
	}
	return pkg
}

// clock prints a duration in whole seconds.
func clock(d time.Duration) string {
	return max(d, 0).Round(time.Second).String()
}
