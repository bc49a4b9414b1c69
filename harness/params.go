package harness

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// params is what the user chose. It does not change after Main has read it.
type params struct {
	mode       Mode
	full       bool
	dir        string // "" selects the benchmark's temporary directory
	diskUnsafe bool
	strict     bool
	list       bool
	seed       uint64
	watchdog   time.Duration // 0 disables it
	metrics    string        // address of live metrics; "" disables them
	profiles   []string      // of each benchmark
	numbers    map[string]int
	words      map[string]string
	span       time.Duration   // of a case that draws a series
	given      map[string]bool // the parameters that the user set
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

// Points returns the points of an axis, or of a product of axes, that a benchmark
// should take: few, which tell most, or with the full matrix all of them.
func Points[T any](few, all []T) []T {
	if Full() {
		return all
	}
	return few
}

// Seed returns the seed of this run. The same seed gives the same workload and
// the same faults; it fixes no interleaving. Default: 1.
func Seed() uint64 {
	// go test remembers results by the variables that it saw a test read, and what
	// Main reads it does not see: another seed would be answered from its memory.
	_ = os.Getenv("PHANTOM_SEED")
	return settings().seed
}

// Nodes returns the number of nodes of a standard case. Default: 20.
func Nodes() int { return settings().number("nodes") }

// Clients returns the number of clients of a standard case. Default: 20, and
// 256 in the stress mode.
func Clients() int { return settings().number("clients") }

// DataBytes returns how much data a standard case holds. Default: 1 MB, and 64
// MB in the stress mode.
func DataBytes() int { return settings().number("data") }

// Axis returns the values a benchmark should take along an axis: those given,
// or the single one the user pinned (PHANTOM_CLIENTS=8 pins clients). The keys
// that can be pinned are nodes, groups, clients, size and data for numbers,
// disk and net for words; others panic.
func Axis[T int | string](key string, values ...T) []T {
	p := settings()
	switch pinned := any(new(T)).(type) {
	case *int:
		if _, ok := ranges[key]; !ok || !ranges[key].axis {
			panic(fmt.Sprintf("harness: axis %q of numbers: want one of nodes, groups, clients, size, data", key))
		}
		if p.given[key] {
			*pinned = p.numbers[key]
			return []T{any(*pinned).(T)}
		}
	case *string:
		if _, ok := vocabularies[key]; !ok {
			panic(fmt.Sprintf("harness: axis %q of words: want disk or net", key))
		}
		if p.given[key] {
			*pinned = p.words[key]
			return []T{any(*pinned).(T)}
		}
	}
	return values
}

func (p *params) number(key string) int {
	if p.given[key] {
		return p.numbers[key]
	}
	m := p.preset()
	switch key {
	case "nodes":
		return m.nodes
	case "clients":
		return m.clients
	case "data":
		return m.dataBytes
	case "transactions":
		return m.transactions
	case "queries":
		return m.queries
	}
	panic(fmt.Sprintf("harness: parameter %q has no default", key))
}

func (p *params) transactions() int { return p.number("transactions") }
func (p *params) queries() int      { return p.number("queries") }

func (p *params) duration() time.Duration {
	if p.given["duration"] {
		return p.span
	}
	return p.preset().duration
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
		if err := k.apply(p, text); err != nil {
			return nil, fmt.Errorf("harness: %s=%q: %w", k.variable(), text, err)
		}
	}
	return p, nil
}

// defaults returns the parameters of a user who chose nothing.
func defaults() *params {
	return &params{
		mode: ModeQuick, seed: 1, watchdog: 2 * time.Minute,
		numbers: map[string]int{}, words: map[string]string{}, given: map[string]bool{},
	}
}

// register declares the flags on fs. They change p when fs parses.
func register(fs *flag.FlagSet, p *params) {
	for _, k := range knobs() {
		name, usage := "phantom."+k.name, k.usage+" ("+k.variable()+")"
		set := func(text string) error { return k.apply(p, text) }
		if k.bool {
			fs.BoolFunc(name, usage, set)
		} else {
			fs.Func(name, usage, set)
		}
	}
}

// A Setting is one parameter as it applies to a run.
type Setting struct {
	// Name is the parameter's, without the prefix of its flag or variable.
	Name string
	// Value is what the user set, or what the mode does; "any" for an axis
	// along which every benchmark goes its own way.
	Value string
	// Given reports whether the user set it.
	Given bool
}

// Settings returns every parameter of this run with its value, in the order of
// the help text, for whoever keeps results.
func Settings() []Setting { return settings().table() }

func (p *params) table() []Setting {
	values := map[string]string{
		"mode": string(p.mode), "matrix": "quick", "seed": strconv.FormatUint(p.seed, 10),
		"duration": p.duration().String(), "watchdog": p.watchdog.String(), "dir": p.dataDir(),
		"disk-unsafe": strconv.FormatBool(p.diskUnsafe), "strict": strconv.FormatBool(p.strict),
		"list": strconv.FormatBool(p.list), "metrics": none(p.metrics), "profile": none(strings.Join(p.profiles, ",")),
	}
	if p.full {
		values["matrix"] = "full"
	}
	for _, key := range []string{"nodes", "clients", "transactions", "queries", "data"} {
		values[key] = strconv.Itoa(p.number(key))
	}
	var table []Setting
	for _, k := range knobs() {
		v, ok := values[k.name]
		switch {
		case ok:
		case !p.given[k.name]:
			v = "any"
		case p.words[k.name] != "":
			v = p.words[k.name]
		default:
			v = strconv.Itoa(p.numbers[k.name])
		}
		table = append(table, Setting{Name: k.name, Value: v, Given: p.given[k.name]})
	}
	return table
}

// none spells out an empty setting.
func none(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// String is the line that stands with the results: every parameter, those that
// the user set marked by an exclamation mark.
func (p *params) String() string {
	var s strings.Builder
	for i, t := range p.table() {
		if i > 0 {
			s.WriteByte(' ')
		}
		s.WriteString(t.Name)
		if t.Given {
			s.WriteByte('!')
		}
		s.WriteString("=" + t.Value)
	}
	return s.String()
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

// dataDir is where data lies that must be durable: the folder that was asked for,
// or the one in which package testing makes its temporary ones.
func (p *params) dataDir() string { return cmp.Or(p.dir, os.Getenv("GOTMPDIR"), os.TempDir()) }
