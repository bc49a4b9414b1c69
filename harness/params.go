package harness

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A Mode names a set of parameters.
type Mode string

const (
	// ModeQuick validates everything in minutes: 250 ms a case. The default.
	ModeQuick Mode = "quick"
	// ModeStandard is for figures worth keeping: 2 s a case.
	ModeStandard Mode = "standard"
)

// benchtimes holds what a mode gives each case where the user set no
// -benchtime.
var benchtimes = map[Mode]string{ModeQuick: "250ms", ModeStandard: "2s"}

// params is what the user chose. It does not change after Main has read it.
type params struct {
	mode       Mode
	full       bool
	dir        string // "" selects the benchmark's temporary directory
	diskUnsafe bool
	strict     bool
	seed       uint64
	watchdog   time.Duration // 0 disables it
	axes       map[string]int
}

// chosen is set by Main. Packages without it see the environment alone.
var chosen atomic.Pointer[params]

// settings returns the parameters, read from the environment if Main has not
// run. It panics on bad ones, since there is nobody to return an error to.
func settings() *params {
	if p := chosen.Load(); p != nil {
		return p
	}
	p, err := fromEnvironment(os.LookupEnv)
	if err != nil {
		panic(err)
	}
	chosen.CompareAndSwap(nil, p)
	return chosen.Load()
}

// CurrentMode returns the mode of this run.
func CurrentMode() Mode { return settings().mode }

// Quick reports whether cases should be few and short: the quick mode without
// the full matrix.
func Quick() bool { return settings().mode == ModeQuick && !settings().full }

// Full reports whether a benchmark should run the whole product of its axes
// rather than a centre case and variations of one axis (PHANTOM_MATRIX=full).
func Full() bool { return settings().full }

// Seed returns the seed of this run. The same seed gives the same workload and
// the same faults; it fixes no interleaving. Default: 1.
func Seed() uint64 { return settings().seed }

// Axis returns the values a benchmark should take along an axis: those given,
// or the single one the user pinned (PHANTOM_CLIENTS=8 pins clients). The keys
// that can be pinned are nodes, groups, clients and size; others panic.
func Axis(key string, values ...int) []int {
	if _, ok := axisRanges[key]; !ok {
		panic(fmt.Sprintf("harness: axis %q: want one of nodes, groups, clients, size", key))
	}
	if v, ok := settings().axes[key]; ok {
		return []int{v}
	}
	return values
}

// axisRanges bounds what a user may pin. The upper ends are where one process
// stops making sense, not limits of the system.
var axisRanges = map[string]struct {
	min, max int
	usage    string
}{
	"nodes":   {1, 1000, "number of nodes"},
	"groups":  {1, 1_000_000, "number of Raft groups"},
	"clients": {1, 100_000, "number of closed-loop clients"},
	"size":    {1, 64 << 20, "payload of a command in bytes"},
}

// A knob is one parameter: its name, what it means, and how a text sets it.
type knob struct {
	name  string
	usage string
	bool  bool // may be given as a flag without a value
	set   func(p *params, text string) error
}

// knobs lists every parameter. The flag of a knob is -phantom.<name>, its
// variable PHANTOM_<NAME> with "-" as "_".
func knobs() []knob {
	ks := []knob{
		{"mode", "quick or standard", false, (*params).setMode},
		{"matrix", "quick (a centre case and one-axis variations) or full (the product of all axes)", false, (*params).setMatrix},
		{"dir", "directory for the data of durable cases; default: the benchmark's temporary one", false, (*params).setDir},
		{"disk-unsafe", "let durable cases run on any file system; their names then say disk=unsafe", true,
			func(p *params, s string) (err error) { p.diskUnsafe, err = parseBool(s); return err }},
		{"strict", "fail when a benchmark had to be skipped", true,
			func(p *params, s string) (err error) { p.strict, err = parseBool(s); return err }},
		{"seed", "seed of workloads and faults", false, (*params).setSeed},
		{"watchdog", "longest silence of a benchmark before it is killed; 0 disables", false, (*params).setWatchdog},
	}
	for _, key := range slices.Sorted(maps.Keys(axisRanges)) {
		r := axisRanges[key]
		usage := fmt.Sprintf("%s, %d to %d; pins the axis", r.usage, r.min, r.max)
		ks = append(ks, knob{key, usage, false, func(p *params, s string) error { return p.setAxis(key, s) }})
	}
	return ks
}

// variable returns the name of the knob in the environment.
func (k knob) variable() string {
	return "PHANTOM_" + strings.ToUpper(strings.ReplaceAll(k.name, "-", "_"))
}

// defaults returns the parameters of a user who chose nothing.
func defaults() *params {
	return &params{mode: ModeQuick, seed: 1, watchdog: 2 * time.Minute, axes: map[string]int{}}
}

// fromEnvironment reads the parameters from the environment. An error names
// the variable, its value and what was expected. An empty variable counts as
// unset, because that is how shells and workflows pass "nothing".
func fromEnvironment(lookup func(string) (string, bool)) (*params, error) {
	p := defaults()
	for _, k := range knobs() {
		text, ok := lookup(k.variable())
		if !ok || text == "" {
			continue
		}
		if err := k.set(p, text); err != nil {
			return nil, fmt.Errorf("harness: %s=%q: %w", k.variable(), text, err)
		}
	}
	return p, nil
}

// register declares the flags on fs. They change p when fs parses.
func register(fs *flag.FlagSet, p *params) {
	for _, k := range knobs() {
		name, usage := "phantom."+k.name, k.usage+" ("+k.variable()+")"
		set := func(text string) error { return k.set(p, text) }
		if k.bool {
			fs.BoolFunc(name, usage, set)
		} else {
			fs.Func(name, usage, set)
		}
	}
}

func (p *params) setMode(s string) error {
	if _, ok := benchtimes[Mode(s)]; !ok {
		return fmt.Errorf("want quick or standard")
	}
	p.mode = Mode(s)
	return nil
}

func (p *params) setMatrix(s string) error {
	switch s {
	case "quick", "full":
		p.full = s == "full"
		return nil
	}
	return fmt.Errorf("want quick or full")
}

func (p *params) setDir(s string) error {
	info, err := os.Stat(s)
	if err != nil {
		return fmt.Errorf("want an existing directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("want a directory, and this is a file")
	}
	p.dir = s
	return nil
}

func (p *params) setSeed(s string) error {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return fmt.Errorf("want an integer from 0 to %d", uint64(1<<64-1))
	}
	p.seed = v
	return nil
}

func (p *params) setWatchdog(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 0 && d < time.Second {
		return fmt.Errorf("want 0 or a duration of at least 1s, such as 2m")
	}
	p.watchdog = d
	return nil
}

func (p *params) setAxis(key, s string) error {
	r := axisRanges[key]
	v, err := strconv.Atoi(s)
	if err != nil || v < r.min || v > r.max {
		return fmt.Errorf("want an integer from %d to %d", r.min, r.max)
	}
	p.axes[key] = v
	return nil
}

func parseBool(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("want true or false")
	}
	return v, nil
}

// unknownVariables returns the PHANTOM_ variables of an environment that name
// no parameter: mistyped ones would otherwise change nothing in silence.
func unknownVariables(environ []string) []string {
	known := map[string]bool{}
	for _, k := range knobs() {
		known[k.variable()] = true
	}
	var unknown []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "PHANTOM_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
