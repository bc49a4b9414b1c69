package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// evidence is what this process keeps about its benchmarks beside their lines;
// Main sets it, nil means nothing. It is nil unless -artifacts, PHANTOM_METRICS
// or the long-running mode ask for it, so that other runs pay a nil check.
var evidence atomic.Pointer[ledger]

// A ledger collects the evidence of one process.
type ledger struct {
	// Fixed after Main.
	artifacts   bool     // write records: -artifacts
	drift       bool     // look for drift and leaks: the long-running mode
	profiles    []string // of each benchmark: PHANTOM_PROFILE
	live        *liveServer
	environment artifact.Environment
	pkg         string

	mu     sync.Mutex
	order  int                     // samples so far
	index  map[string]int          // of them by name
	open   map[*testing.B]*watcher // benchmarks between their measured part and their end
	dirs   map[*testing.B][]string // their data directories
	broken int                     // records that could not be written
}

// newLedger returns what the run asks for, nil if that is nothing.
func newLedger(p *params) (*ledger, error) {
	l := &ledger{
		artifacts: flagText("test.artifacts") == "true",
		drift:     p.mode == ModeLongRunning,
		profiles:  p.profiles,
		pkg:       packagePath(),
		index:     map[string]int{},
		open:      map[*testing.B]*watcher{},
		dirs:      map[*testing.B][]string{},
	}
	if err := checkProfiles(l.profiles, l.artifacts); err != nil {
		return nil, err
	}
	if p.metrics != "" {
		live, err := serveMetrics(p.metrics, l)
		if err != nil {
			return nil, err
		}
		l.live = live
		fmt.Fprintf(os.Stderr, "# harness: live metrics at http://%s/metrics\n", live.address)
	}
	if !l.artifacts && !l.drift && l.live == nil {
		return nil, nil
	}
	if l.artifacts {
		if err := l.describeProcess(p); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// describeProcess probes the machine and writes the environment beside the
// directories that package testing will make.
func (l *ledger) describeProcess(p *params) error {
	l.environment = probeEnvironment(p.dataDir())
	// Where package testing puts artifacts, which it does not tell before
	// there is a test to ask it.
	root := filepath.Join(flagText("test.outputdir"), "_artifacts", "environment-"+l.environment.ID)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("harness: artifacts: %w", err)
	}
	if err := artifact.WriteEnvironment(root, l.environment); err != nil {
		return fmt.Errorf("harness: artifacts: %w", err)
	}
	return nil
}

// close ends what serves the ledger, and reports whether a record is missing.
func (l *ledger) close() (broken bool) {
	if l == nil {
		return false
	}
	if l.live != nil {
		l.live.close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken > 0
}

// complain says at the end of the run that evidence about b is lost. The
// measurement stands, and the process will not end with status 0.
func (l *ledger) complain(b *testing.B, err error) {
	l.mu.Lock()
	l.broken++
	l.mu.Unlock()
	tail.remark(fmt.Sprintf("# harness: artifacts of %s: %v", b.Name(), err))
}

// noteDir remembers a data directory of b until b ends.
func (l *ledger) noteDir(b *testing.B, dir string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirs[b] == nil {
		b.Cleanup(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.dirs, b)
		})
	}
	l.dirs[b] = append(l.dirs[b], dir)
}

// number gives a sample its place among those of this process.
func (l *ledger) number(name string) (order, index int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	order, index = l.order, l.index[name]
	l.order++
	l.index[name]++
	return order, index
}

// missing records that the case of b was asked for and not measured.
func missing(b *testing.B, why string) {
	l := evidence.Load()
	if l == nil || !l.artifacts {
		return
	}
	err := artifact.WriteMissing(b.ArtifactDir(), artifact.Missing{
		Package: l.pkg, Name: b.Name(), Procs: runtime.GOMAXPROCS(0),
		Process: l.environment.ID, Why: why, Time: time.Now(),
	})
	if err != nil {
		l.complain(b, err)
	}
}

// packagePath returns the import path of the package under test: the test
// binary's own name is that with .test behind it.
func packagePath() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	path, ok := strings.CutSuffix(info.Path, ".test")
	if !ok {
		return ""
	}
	return path
}
