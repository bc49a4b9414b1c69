package harness

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.uber.org/goleak"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// Main runs the tests and benchmarks of a package and ends the process. Every
// package with tests calls it:
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
// It reads parameters and flags, declares the units when benchmarks run,
// silences Raft's default logger, bounds a benchmark that hangs, and looks for
// leaked goroutines afterwards. Nothing is ignored in that search unless an
// option says so.
//
// The process ends with status 0; 1 when a test failed, a goroutine leaked, a
// benchmark was skipped under PHANTOM_STRICT, or artifacts could not be written;
// 2 for bad parameters or
// positional arguments; 3 when the watchdog bit.
func Main(m *testing.M, ignore ...goleak.Option) {
	os.Exit(run(m, ignore))
}

func run(m *testing.M, ignore []goleak.Option) int {
	p, err := fromEnvironment(os.LookupEnv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "#", err)
		return 2
	}
	register(flag.CommandLine, p)
	flag.Parse()
	if flag.NArg() > 0 {
		refuseArguments(os.Stderr, flag.Args())
		return 2
	}
	chosen.Store(p)
	raft.SetLogger(quiet{})

	list := []part{{}}
	if pattern := flagText("test.bench"); pattern != "" {
		names, known := chosenBenchmarks(m, pattern)
		if len(names) > 0 || !known {
			if list, err = prepareBenchmarks(p, names); err != nil {
				fmt.Fprintln(os.Stderr, "#", err)
				return 2
			}
		}
	}
	code, err := runParts(m, list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "#", err)
	}
	guard.Store(nil)
	if broken := evidence.Swap(nil).close(); broken && code == 0 {
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(ignore...); err != nil {
			fmt.Fprintf(os.Stderr, "# harness: goroutines outlived the tests: %v\n", err)
			code = 1
		}
	}
	if n := skips.Load(); code == 0 && p.strict && n > 0 {
		fmt.Fprintf(os.Stderr, "# harness: %d benchmarks skipped, and PHANTOM_STRICT is set\n", n)
		code = 1
	}
	return code
}

// skips counts the benchmarks that could not be measured as asked.
var skips atomic.Int64

// Skip ends a benchmark that cannot measure what it was asked to: b.Skip would
// take the row away without a word. It writes why on standard error, leaves a
// record that check reads beside the artifacts, and counts, which PHANTOM_STRICT
// turns into a failure. A run that only lists its cases skips nothing. Skip must
// not be called after b.Loop has begun: the row would be lost in the middle of its
// line. It does not return.
func Skip(b *testing.B, why string) {
	b.Helper()
	Begin(b)
	skips.Add(1)
	fmt.Fprintf(os.Stderr, "# skipped %s: %s\n", b.Name(), why)
	missing(b, why)
	b.SkipNow()
}

// prepareBenchmarks prints what stands above the first benchmark line, divides
// the benchmarks by the length that the mode gives them, and lets the watchdog
// in.
func prepareBenchmarks(p *params, names []string) ([]part, error) {
	for _, name := range unknownVariables(os.Environ()) {
		fmt.Fprintf(os.Stderr, "# harness: %s is no parameter and changes nothing\n", name)
	}
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.benchtime" })
	list := p.parts(names, given)
	if p.list {
		return list, nil
	}
	if err := refuseProfiles(list); err != nil {
		return nil, err
	}
	l, err := newLedger(p)
	if err != nil {
		return nil, err
	}
	evidence.Store(l)
	// Parameters may differ between runs that are to be compared, so they are a
	// remark and no configuration of the format.
	fmt.Fprintf(os.Stderr, "# phantom: %v\n", p)
	announceParts(os.Stderr, list)
	if p.watchdog > 0 {
		guard.Store(biteAfter(p.watchdog))
	}
	return list, preamble(os.Stdout, p)
}

// preamble declares the units, then states in configuration lines what is
// meant to be equal between runs that may be compared. Seeds, dates and commits
// do not belong here: the tools compare only lines of equal configuration.
func preamble(out io.Writer, p *params) error {
	if err := measure.WriteUnits(out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "phantom-mode: %s\nphantom-fs: %s\n", p.mode, fileSystem(p.dataDir()))
	if err != nil {
		return fmt.Errorf("harness: preamble: %w", err)
	}
	return nil
}

func refuseArguments(out io.Writer, args []string) {
	fmt.Fprintf(out, "# harness: unexpected arguments: %s\n", strings.Join(args, " "))
	fmt.Fprintln(out, "# A -phantom flag in front of the packages makes go test run one directory and hand")
	fmt.Fprintln(out, "# it the packages as arguments. Set the environment (PHANTOM_NODES=5 go test ./...)")
	fmt.Fprintln(out, "# or put the flag last (go test -bench=. ./... -phantom.nodes=5).")
}

func flagText(name string) string {
	if f := flag.Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

// benchtime returns what -benchtime asks for: a number of iterations, or a
// length.
func benchtime() (n int, d time.Duration) {
	text := flagText("test.benchtime")
	if count, ok := strings.CutSuffix(text, "x"); ok {
		if _, err := fmt.Sscan(count, &n); err == nil {
			return n, 0
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d = time.Second // the default of package testing
	}
	return 0, d
}

// quiet is a Raft logger that says nothing. The default one writes a line to
// standard error for each election, and one line in the wrong place loses a
// benchmark row.
type quiet struct{}

func (quiet) Debug(...any)                   {}
func (quiet) Debugf(string, ...any)          {}
func (quiet) Error(...any)                   {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Info(...any)                    {}
func (quiet) Infof(string, ...any)           {}
func (quiet) Warning(...any)                 {}
func (quiet) Warningf(string, ...any)        {}
func (quiet) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (quiet) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (quiet) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (quiet) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
