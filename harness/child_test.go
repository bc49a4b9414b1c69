package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"golang.org/x/perf/benchfmt"
)

// Some promises are about a whole test process: what it prints, how it ends,
// how often it boots. For those this test binary runs itself, with childVar
// naming a case. The names below do nothing when it is not set.
const (
	childVar = "HARNESS_CHILD"
	fileVar  = "HARNESS_CHILD_FILE"
)

// child runs this test binary with a case, flags and variables ("A=b").
func child(t *testing.T, which string, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	// A child that ran this test would start a child, and so on.
	require.Empty(t, os.Getenv(childVar), "a child process must not run this test")
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	for _, kv := range os.Environ() {
		// The parameters of the parent's run are not the child's.
		if !strings.HasPrefix(kv, "PHANTOM_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	// Under the race detector a process sleeps for a second before it ends.
	cmd.Env = append(append(cmd.Env, childVar+"="+which, "GORACE=atexit_sleep_ms=0"), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

var benchArgs = []string{"-test.run=^$", "-test.bench=^BenchmarkChild$"}

// BenchmarkChild is what the child processes of the tests run.
func BenchmarkChild(b *testing.B) {
	switch os.Getenv(childVar) {
	case "lines":
		benchmarkLines(b)
	case "boot":
		b.Run(Name("boot", 1), func(b *testing.B) {
			f, err := os.OpenFile(os.Getenv(fileVar), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			require.NoError(b, err)
			_, err = f.WriteString("boot\n")
			require.NoError(b, errors.Join(err, f.Close()))
			Run(b, Spec{Clients: 2}, func(*Client) error { return nil })
		})
	case "hang":
		b.Run(Name("hang", 1), func(b *testing.B) {
			Run(b, Spec{Clients: 2}, func(c *Client) error { <-c.Context.Done(); return nil })
		})
	case "durable":
		b.Run(Name("disk", DiskLabel("sync")), func(b *testing.B) {
			dir := DurableDir(b)
			Run(b, Spec{}, func(*Client) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) })
		})
	case "lost":
		losingRun(b)
	case "drift":
		driftingRun(b)
	case "mix":
		benchmarkMix(b)
	case "procs":
		benchmarkProcs(b)
	case "invalid":
		benchmarkInvalid(b)
	case "lone":
		Run(b, Spec{}, func(*Client) error { return nil })
	case "long":
		b.Run(Name("long", 1), func(b *testing.B) {
			Begin(b)
			for b.Loop() {
				runtime.Gosched()
			}
		})
	case "digits":
		for _, name := range []string{"read-8", "read-8x"} {
			b.Run(name, func(b *testing.B) { Micro(b, func() error { return nil }) })
		}
	case "list":
		b.Run(Name("list", 1), func(b *testing.B) {
			Begin(b)
			b.Error("a case that is only named must not boot")
		})
		b.Run(Name("list", 2), func(b *testing.B) { Skip(b, "it is not measured, but is a case") })
	default:
		b.Skip("for child processes")
	}
}

// benchmarkLines prints every kind of line that the package knows.
func benchmarkLines(b *testing.B) {
	var mu sync.Mutex
	var c Counters
	count := func() Counters {
		mu.Lock()
		defer mu.Unlock()
		c.Fsyncs, c.Elections, c.Messages = c.Fsyncs+100, 1, c.Messages+300
		return c
	}
	work := func(*Client) error { time.Sleep(50 * time.Microsecond); return nil }
	for _, clients := range []int{1, 4} {
		b.Run(Name("disk", "none", "clients", clients), func(b *testing.B) {
			Run(b, Spec{Clients: clients, Counters: count,
				Loads: func() []int64 { c := count(); return []int64{c.Fsyncs, c.Messages} }}, work)
		})
	}
	b.Run(Name("micro", 1), func(b *testing.B) { Micro(b, func() error { return nil }) })
	b.Run(Name("cause", "crash"), func(b *testing.B) {
		Events(b, Spec{}, func(i int) (Event, error) {
			return Event{Took: time.Duration(i+1) * time.Millisecond, Bytes: 1 << 20, Entries: 10,
				Values: map[string]float64{"detect-ns": 3e6, "vote-ns": 1e6}}, nil
		})
	})
}

// TestChild is a test for child processes, and passes everywhere else.
func TestChild(t *testing.T) {
	switch os.Getenv(childVar) {
	case "seed":
		Seed()
	case "leak":
		go func() { select {} }()
	case "raft":
		storage := raft.NewMemoryStorage()
		_, err := raft.NewRawNode(&raft.Config{
			ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1, MaxInflightMsgs: 1,
		})
		require.NoError(t, err)
	}
}

// Raft's default logger writes as soon as a node exists.
func TestRaftIsSilenced(t *testing.T) {
	_, stderr, status := child(t, "raft", nil, "-test.run=^TestChild$")
	require.Zero(t, status)
	require.Empty(t, stderr)
}

func TestLeakedGoroutineFailsTheRun(t *testing.T) {
	_, stderr, status := child(t, "leak", nil, "-test.run=^TestChild$")
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "goroutines outlived the tests")

	stdout, stderr, status := child(t, "clean", nil, "-test.run=^TestChild$")
	require.Zero(t, status)
	require.Empty(t, stderr)
	require.Equal(t, "PASS\n", stdout, "without benchmarks there is nothing to declare")
}

func TestArgumentsAreRefused(t *testing.T) {
	stdout, stderr, status := child(t, "clean", nil, "-test.run=^$", "-test.bench=.", "-phantom.nodes=5", "./...")
	require.Equal(t, 2, status)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "unexpected arguments: ./...")
	require.Contains(t, stderr, "PHANTOM_NODES=5 go test ./...")
}

func TestBadParameterEndsTheRun(t *testing.T) {
	_, stderr, status := child(t, "clean", []string{"PHANTOM_MODE=fast"}, "-test.run=^TestChild$")
	require.Equal(t, 2, status)
	require.Contains(t, stderr, `harness: PHANTOM_MODE="fast": want quick, standard, stress or long-running`)
}

func TestEverySampleBoots(t *testing.T) {
	file := filepath.Join(t.TempDir(), "boots")
	stdout, stderr, status := child(t, "boot", []string{fileVar + "=" + file},
		append(benchArgs, "-test.count=3", "-test.benchtime=20x")...)
	require.Zero(t, status, stderr)
	boots, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "boot\nboot\nboot\n", string(boots))
	require.Len(t, results(t, stdout), 3)
}

func TestHangingBenchmarkIsKilled(t *testing.T) {
	_, stderr, status := child(t, "hang", []string{"PHANTOM_WATCHDOG=1s"}, benchArgs...)
	require.Equal(t, 3, status)
	require.Contains(t, stderr, "no progress for 1s")
	require.Contains(t, stderr, "BenchmarkChild", "the goroutines are printed")
}

// A loop that is longer than the watchdog's limit and silent is no hang. (The
// limit cannot be shorter than a second.)
func TestLongLoopIsNoHang(t *testing.T) {
	_, stderr, status := child(t, "long", []string{"PHANTOM_WATCHDOG=1s"}, append(benchArgs, "-test.benchtime=1200ms")...)
	require.Zero(t, status, stderr)
}

func TestModeGivesTheLength(t *testing.T) {
	// At 250 ms a case of nothing runs millions of times; with the length the
	// user asked for, as often as asked.
	stdout, _, status := child(t, "lone", nil, append(benchArgs, "-test.benchtime=3x")...)
	require.Zero(t, status)
	require.Equal(t, 3, results(t, stdout)[0].Iters)
	stdout, _, status = child(t, "lone", []string{"PHANTOM_MODE=quick"}, benchArgs...)
	require.Zero(t, status)
	require.Greater(t, results(t, stdout)[0].Iters, 3)
	require.Contains(t, stdout, "phantom-mode: quick\n")
}

func TestUnknownVariableIsNoticed(t *testing.T) {
	stdout, stderr, status := child(t, "lone", []string{"PHANTOM_NODE=5"}, append(benchArgs, "-test.benchtime=1x")...)
	require.Zero(t, status)
	require.Contains(t, stderr, "PHANTOM_NODE is no parameter")
	require.Len(t, results(t, stdout+stderr), 1, "the remark costs no row where both streams are one")
}

// memoryDir returns a directory in memory, or skips.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "phantom-*") //nolint:usetesting // it must lie in memory
	if runtime.GOOS != "linux" || err != nil || fileSystem(dir) != "tmpfs" {
		t.Skipf("no tmpfs at /dev/shm on this machine (%v)", err)
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func TestDurableRefusesMemory(t *testing.T) {
	dir := memoryDir(t)
	require.ErrorIs(t, durable(dir), errNotDurable)

	args := append(benchArgs, "-test.benchtime=5x", "-test.count=2")
	stdout, stderr, status := child(t, "durable", []string{"PHANTOM_DIR=" + dir}, args...)
	require.Zero(t, status)
	require.Empty(t, results(t, stdout), "nothing was measured")
	require.Contains(t, stderr, "# skipped BenchmarkChild/disk=sync: harness: not durable: "+dir)
	require.Contains(t, stderr, "PHANTOM_DISK_UNSAFE=1")

	_, stderr, status = child(t, "durable", []string{"PHANTOM_DIR=" + dir, "PHANTOM_STRICT=1"}, args...)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "1 benchmarks skipped, and PHANTOM_STRICT is set")

	stdout, _, status = child(t, "durable", []string{"PHANTOM_DIR=" + dir, "PHANTOM_DISK_UNSAFE=1"}, args...)
	require.Zero(t, status)
	rows := results(t, stdout)
	require.Len(t, rows, 2)
	require.Contains(t, rows[0].Name.String(), "/disk=unsafe")

	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "data directories are removed")
}

func TestFlushTooFastForADisk(t *testing.T) {
	require.ErrorIs(t, plausible("d", 19*time.Microsecond), errNotDurable)
	require.ErrorContains(t, plausible("d", 3*time.Microsecond), "a flush to d takes 3µs: want at least 20µs")
	require.NoError(t, plausible("d", 20*time.Microsecond))
}

func TestProbeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	took, err := probe(dir)
	require.NoError(t, err)
	require.Positive(t, took)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = probe(filepath.Join(dir, "gone"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// results reads the rows of a benchmark text and fails on lines that the tools
// would not understand.
func results(t *testing.T, text string) []*benchfmt.Result {
	t.Helper()
	var rows []*benchfmt.Result
	r := benchfmt.NewReader(strings.NewReader(text), "text")
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			rows = append(rows, rec.Clone())
		case *benchfmt.SyntaxError:
			require.NoError(t, rec)
		}
	}
	require.NoError(t, r.Err())
	return rows
}

// What a test does with another seed must not be answered from the memory of
// go test, which knows of the variables in this file only.
func TestSeedIsSeenByGoTest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "testlog")
	_, stderr, status := child(t, "seed", nil, "-test.run=^TestChild$", "-test.testlogfile="+file)
	require.Zero(t, status, stderr)
	seen, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(seen), "getenv PHANTOM_SEED\n")
}
