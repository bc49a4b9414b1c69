package harness

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ranges bounds the numbers a user may set. The upper ends are where one
// process stops making sense, not limits of the system.
var ranges = map[string]struct {
	min, max int
	usage    string
	axis     bool // setting it pins the axis of that name
}{
	"nodes":        {1, 1000, "number of nodes", true},
	"groups":       {1, 1_000_000, "number of Raft groups", true},
	"clients":      {1, 100_000, "number of clients", true},
	"size":         {1, 64 << 20, "payload of a command in bytes", true},
	"data":         {1, 1 << 40, "data that a case holds, such as 1MB or 64MiB", true},
	"transactions": {1, 1_000_000_000, "operations of a case of BenchmarkTransactions", false},
	"queries":      {1, 1_000_000_000, "operations of a case of BenchmarkQueries", false},
}

// vocabularies lists the words that an axis of words knows.
var vocabularies = map[string]struct {
	words []string
	usage string
}{
	"disk": {[]string{"none", "sync", "shared"}, "kind of disk: in memory, a real sync, or one log for all nodes of the process"},
	"net":  {[]string{"sim", "tcp"}, "kind of wire: simulated links or TCP"},
}

// maxDuration bounds a typing error: a week.
const maxDuration = 7 * 24 * time.Hour

// A knob is one parameter: its name, what it means, and how a text sets it.
type knob struct {
	name  string
	usage string
	bool  bool // may be given as a flag without a value
	set   func(p *params, text string) error
}

// apply sets the parameter and remembers that the user did.
func (k knob) apply(p *params, text string) error {
	if err := k.set(p, text); err != nil {
		return err
	}
	p.given[k.name] = true
	return nil
}

// variable returns the name of the knob in the environment.
func (k knob) variable() string {
	return "PHANTOM_" + strings.ToUpper(strings.ReplaceAll(k.name, "-", "_"))
}

// knobs lists every parameter. The flag of a knob is -phantom.<name>, its
// variable PHANTOM_<NAME> with "-" as "_".
func knobs() []knob {
	ks := []knob{
		{"mode", wantMode(), false, (*params).setMode},
		{"matrix", "quick (a centre case and one-axis variations) or full (the product of all axes)", false, (*params).setMatrix},
	}
	for _, key := range []string{"nodes", "clients", "transactions", "queries"} {
		ks = append(ks, numberKnob(key))
	}
	ks = append(ks,
		knob{"duration", "length of a case that draws a series", false, (*params).setDuration},
		numberKnob("data"),
		knob{"seed", "seed of workloads and faults", false, (*params).setSeed},
		wordKnob("disk"), wordKnob("net"), numberKnob("groups"), numberKnob("size"),
		knob{"dir", "directory for the data of durable cases; default: the benchmark's temporary one", false, (*params).setDir},
	)
	return append(ks,
		knob{"metrics", "address, such as 127.0.0.1:9464, that serves live metrics while benchmarks run", false, (*params).setMetrics},
		knob{"profile", "profiles of each benchmark's measured part, of " + wantProfiles() + "; needs -artifacts", false, (*params).setProfile},
		boolKnob("disk-unsafe", "let durable cases run on any file system; their names then say disk=unsafe", func(p *params) *bool { return &p.diskUnsafe }),
		boolKnob("strict", "fail when a benchmark had to be skipped", func(p *params) *bool { return &p.strict }),
		boolKnob("list", "name the cases that would run, and measure none", func(p *params) *bool { return &p.list }),
		knob{"watchdog", "longest silence of a benchmark before it is killed; 0 disables", false, (*params).setWatchdog},
	)
}

func numberKnob(key string) knob {
	r := ranges[key]
	usage := fmt.Sprintf("%s, %d to %d", r.usage, r.min, r.max)
	if r.axis {
		usage += "; pins the axis"
	}
	return knob{key, usage, false, func(p *params, s string) error {
		v, err := parseNumber(key, s)
		if err != nil || v < r.min || v > r.max {
			return fmt.Errorf("want an integer from %d to %d", r.min, r.max)
		}
		p.numbers[key] = v
		return nil
	}}
}

// sizes are the endings that a size may have, the longer ones first.
var sizes = []struct {
	ending string
	bytes  int
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

// parseNumber reads a number, and where it counts bytes, one with a unit.
func parseNumber(key, s string) (int, error) {
	factor := 1
	if key == "data" || key == "size" {
		for _, u := range sizes {
			if text, ok := strings.CutSuffix(s, u.ending); ok {
				s, factor = text, u.bytes
				break
			}
		}
	}
	v, err := strconv.Atoi(s)
	if err == nil && (v > (1<<62)/factor || v < -(1<<62)/factor) {
		return 0, strconv.ErrRange
	}
	return v * factor, err
}

func wordKnob(key string) knob {
	v := vocabularies[key]
	want := strings.Join(v.words[:len(v.words)-1], ", ") + " or " + v.words[len(v.words)-1]
	return knob{key, v.usage + " (" + want + "); pins the axis", false, func(p *params, s string) error {
		if !slices.Contains(v.words, s) {
			return fmt.Errorf("want %s", want)
		}
		p.words[key] = s
		return nil
	}}
}

func boolKnob(name, usage string, field func(*params) *bool) knob {
	return knob{name, usage, true, func(p *params, s string) error {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("want true or false")
		}
		*field(p) = v
		return nil
	}}
}

func (p *params) setMode(s string) error {
	if _, ok := findMode(Mode(s)); !ok {
		return fmt.Errorf("want %s", wantMode())
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

func (p *params) setDuration(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond || d > maxDuration {
		return fmt.Errorf("want a duration from 1ms to %v, such as 60s", maxDuration)
	}
	p.span = d
	return nil
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

func (p *params) setMetrics(s string) (err error) {
	p.metrics, err = liveAddress(s)
	return err
}

func (p *params) setProfile(s string) (err error) {
	p.profiles, err = parseProfiles(s)
	return err
}
