package harness

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// probeEnvironment describes the machine and measures its disk, at dir, and its
// loopback. It takes some 50 ms on a disk that syncs in 150 us. What it cannot
// find out is absent.
func probeEnvironment(dir string) artifact.Environment {
	now := time.Now()
	e := artifact.Environment{
		Schema: artifact.Schema,
		// Sorts by time, and two processes of the same moment differ.
		ID:    now.UTC().Format("20060102T150405") + "-" + strings.ToLower(rand.Text()[:8]),
		Start: now, Cores: runtime.NumCPU(), Procs: runtime.GOMAXPROCS(0),
		OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(),
		FileSystem: fileSystem(dir),
	}
	describeMachine(&e)
	e.Commit, e.Modified = sourceRevision()
	e.Loopback = probeLoopback()
	e.Disk = probeDisk(dir)
	return e
}

const (
	// probeBlock is what raftlog writes for one small flush.
	probeBlock = 4096
	// probeCount is odd, so that there is a middle one.
	probeCount = 63
)

// probeDisk measures flushes of blocks that were written before, one after the
// other, as the log does in its preallocated segments.
func probeDisk(dir string) *artifact.DiskProbe {
	f, err := os.CreateTemp(dir, "phantom-probe-*")
	if err != nil {
		return nil
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, probeBlock*probeCount)); err != nil {
		return nil
	}
	d := &artifact.DiskProbe{Block: probeBlock}
	d.Fsync = medianOf(f, (*os.File).Sync)
	if hasDataFlush {
		d.Fdatasync = medianOf(f, flush)
	}
	if d.Fsync == nil && d.Fdatasync == nil {
		return nil
	}
	return d
}

// medianOf writes every block of f once and makes each durable.
func medianOf(f *os.File, sync func(*os.File) error) *artifact.Probe {
	if err := f.Sync(); err != nil { // of what was written before
		return nil
	}
	block := []byte(strings.Repeat("phantom ", probeBlock/8))
	times := make([]time.Duration, 0, probeCount)
	for i := range int64(probeCount) {
		clock := measure.StartClock()
		if _, err := f.WriteAt(block, i*probeBlock); err != nil {
			return nil
		}
		if err := sync(f); err != nil {
			return nil
		}
		times = append(times, clock.Now())
	}
	return middle(times)
}

func middle(times []time.Duration) *artifact.Probe {
	slices.Sort(times)
	return &artifact.Probe{P50: int64(times[len(times)/2]), Count: len(times)}
}

// probeLoopback measures the way of one byte to a goroutine of this process and
// back over TCP.
func probeLoopback() *artifact.Probe {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil
	}
	defer l.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			echo(c)
		}
	}()
	c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
	if err != nil {
		_ = l.Close() // ends the goroutine
		<-ended
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	times, err := roundTrips(c)
	_ = c.Close()
	<-ended
	if err != nil {
		return nil
	}
	return middle(times)
}

func echo(c net.Conn) {
	one := make([]byte, 1)
	for {
		if _, err := c.Read(one); err != nil {
			return
		}
		if _, err := c.Write(one); err != nil {
			return
		}
	}
}

// roundTrips makes 20 to warm up and 201 that count.
func roundTrips(c net.Conn) ([]time.Duration, error) {
	const warmUp, counted = 20, 201
	one := make([]byte, 1)
	var times []time.Duration
	for i := range warmUp + counted {
		clock := measure.StartClock()
		if _, err := c.Write(one); err != nil {
			return nil, err
		}
		if _, err := c.Read(one); err != nil {
			return nil, err
		}
		if i >= warmUp {
			times = append(times, clock.Now())
		}
	}
	return times, nil
}

// sourceRevision returns the commit of the source under test. The go command
// does not note it in test binaries, so git is asked; without it, or outside of
// a work tree, there is none.
func sourceRevision() (commit string, modified bool) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				commit = s.Value
			case "vcs.modified":
				modified = s.Value == "true"
			}
		}
	}
	if commit != "" {
		return commit, modified
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return "", false
	}
	status, err := git("status", "--porcelain", "--untracked-files=no")
	return commit, err == nil && status != ""
}

// git runs one command where the test runs, which is its package's directory.
func git(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("harness: git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// describeLinux fills e from files below root, which is / but in tests.
func describeLinux(e *artifact.Environment, root string) {
	read := func(path string) string {
		text, err := readBounded(filepath.Join(root, path), 64<<10)
		if err != nil {
			return ""
		}
		return text
	}
	cpu := read("proc/cpuinfo")
	e.CPU = fieldOf(cpu, "model name")
	if kB, ok := strings.CutSuffix(fieldOf(read("proc/meminfo"), "MemTotal"), " kB"); ok {
		var n int64
		if _, err := fmt.Sscan(kB, &n); err == nil && n > 0 && n < 1<<50 {
			e.Memory = n << 10
		}
	}
	var load [3]float64
	if n, _ := fmt.Sscan(read("proc/loadavg"), &load[0], &load[1], &load[2]); n == len(load) {
		e.Load = load[:]
	}
	e.Kernel = strings.TrimSpace(read("proc/sys/kernel/osrelease"))
	flags := strings.Fields(fieldOf(cpu, "flags"))
	vendor := strings.TrimSpace(read("sys/class/dmi/id/sys_vendor") + " " + strings.TrimSpace(read("sys/class/dmi/id/product_name")))
	switch kind := strings.TrimSpace(read("sys/hypervisor/type")); {
	case kind != "":
		e.Virtualization = kind
	case slices.Contains(flags, "hypervisor") && vendor != "":
		e.Virtualization = strings.Join(strings.Fields(vendor), " ")
	case slices.Contains(flags, "hypervisor"):
		e.Virtualization = "yes"
	}
}

// fieldOf returns what stands behind the first line's key and colon.
func fieldOf(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// readBounded reads at most limit bytes of a plain file.
func readBounded(path string, limit int) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("harness: %s: %v: want a plain file", path, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, limit)
	n := 0
	for n < limit {
		k, err := f.Read(buf[n:])
		if n += k; err != nil || k == 0 {
			break
		}
	}
	return string(buf[:n]), nil
}
