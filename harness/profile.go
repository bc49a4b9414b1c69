package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// profileKinds are the profiles a user may ask for, with the flags of package
// testing that would fight over the same machinery.
var profileKinds = []struct {
	name      string
	file      string // in the artifact directory
	conflicts []string
}{
	{"cpu", "cpu.pprof", []string{"cpuprofile"}},
	{"heap", "heap.pprof", []string{"memprofile", "memprofilerate"}},
	{"mutex", "mutex.pprof", []string{"mutexprofile"}},
	{"block", "block.pprof", []string{"blockprofile"}},
	{"trace", "trace.out", []string{"trace"}},
}

const (
	// One of mutexFraction contended locks is recorded, and a blocking of
	// blockRate nanoseconds on average: enough to see where time goes in a
	// quarter of a second, little enough to leave the run recognisable.
	mutexFraction = 10
	blockRate     = 10_000
)

func wantProfiles() string {
	var names []string
	for _, k := range profileKinds {
		names = append(names, k.name)
	}
	return strings.Join(names, ",")
}

// parseProfiles reads a list of profiles.
func parseProfiles(text string) ([]string, error) {
	known := strings.Split(wantProfiles(), ",")
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%q: want a list of %s", name, wantProfiles())
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// checkProfiles refuses profiles that would have no place or would disturb
// those of package testing.
func checkProfiles(names []string, artifacts bool) error {
	if len(names) == 0 {
		return nil
	}
	if !artifacts {
		return fmt.Errorf("harness: PHANTOM_PROFILE=%s: want -artifacts beside it, which gives the profiles a directory",
			strings.Join(names, ","))
	}
	for _, k := range profileKinds {
		if !slices.Contains(names, k.name) {
			continue
		}
		for _, flag := range k.conflicts {
			// The rate is 0 unless it was given; the others are names.
			if v := flagText("test." + flag); v != "" && v != "0" {
				return fmt.Errorf("harness: PHANTOM_PROFILE=%s: want it without -%s, which uses the same profiler", k.name, flag)
			}
		}
	}
	return nil
}

// A profiler takes the profiles of one measured part.
type profiler struct {
	dir   string
	names []string
	cpu   *os.File
	trace *os.File
	// before are the profiles that only add up, as they stood at the start.
	before map[string]*profile.Profile
}

// startProfiles begins the profiles of b, nil if none were asked for.
func startProfiles(b *testing.B, l *ledger) *profiler {
	if len(l.profiles) == 0 {
		return nil
	}
	p := &profiler{dir: b.ArtifactDir(), names: l.profiles, before: map[string]*profile.Profile{}}
	if err := p.start(); err != nil {
		l.complain(b, err)
	}
	return p
}

func (p *profiler) asked(name string) bool { return p != nil && slices.Contains(p.names, name) }

// start turns on what disturbs least first, and the CPU profile and the trace
// last, which would show the rest.
func (p *profiler) start() error {
	var errs []error
	if p.asked("mutex") {
		runtime.SetMutexProfileFraction(mutexFraction)
	}
	if p.asked("block") {
		runtime.SetBlockProfileRate(blockRate)
	}
	for _, name := range []string{"heap", "mutex", "block"} {
		if p.asked(name) {
			before, err := snapshotProfile(name)
			p.before[name] = before
			errs = append(errs, err)
		}
	}
	var err error
	if p.asked("trace") {
		if p.trace, err = os.Create(filepath.Join(p.dir, "trace.out")); err == nil {
			err = trace.Start(p.trace)
		}
		errs = append(errs, err)
	}
	if p.asked("cpu") {
		if p.cpu, err = os.Create(filepath.Join(p.dir, "cpu.pprof")); err == nil {
			err = pprof.StartCPUProfile(p.cpu)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// stop ends the profiles and writes their files. It may be called on nil.
func (p *profiler) stop() error {
	if p == nil {
		return nil
	}
	var errs []error
	if p.cpu != nil {
		pprof.StopCPUProfile()
		errs = append(errs, p.cpu.Close())
	}
	if p.trace != nil {
		trace.Stop()
		errs = append(errs, p.trace.Close())
	}
	for name, before := range p.before {
		if before != nil {
			errs = append(errs, p.write(name, before))
		}
	}
	if p.asked("mutex") {
		runtime.SetMutexProfileFraction(0)
	}
	if p.asked("block") {
		runtime.SetBlockProfileRate(0)
	}
	return errors.Join(errs...)
}

// write writes what a profile grew by since before. The runtime adds these up
// from the start of the process and cannot begin anew, so that the second
// benchmark of a process would show the first one's locks.
func (p *profiler) write(name string, before *profile.Profile) error {
	after, err := snapshotProfile(name)
	if err != nil {
		return err
	}
	before.Scale(-1)
	delta, err := profile.Merge([]*profile.Profile{before, after})
	if err != nil {
		return fmt.Errorf("harness: profile %s: %w", name, err)
	}
	delta.TimeNanos, delta.DurationNanos = after.TimeNanos, after.TimeNanos-before.TimeNanos
	f, err := os.Create(filepath.Join(p.dir, name+".pprof"))
	if err != nil {
		return err
	}
	return errors.Join(delta.Write(f), f.Close())
}

// snapshotProfile returns a profile of the runtime as it stands.
func snapshotProfile(name string) (*profile.Profile, error) {
	if name == "heap" {
		// What was allocated since the last collection is not in it yet.
		runtime.GC()
	}
	var text bytes.Buffer
	if err := pprof.Lookup(name).WriteTo(&text, 0); err != nil {
		return nil, fmt.Errorf("harness: profile %s: %w", name, err)
	}
	p, err := profile.Parse(&text)
	if err != nil {
		return nil, fmt.Errorf("harness: profile %s: %w", name, err)
	}
	return p, nil
}
