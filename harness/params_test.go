package harness

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// environment is a lookup over a map.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func TestParametersFromEnvironment(t *testing.T) {
	p, err := fromEnvironment(environment(nil))
	require.NoError(t, err)
	require.Equal(t, defaults(), p)
	require.Equal(t, ModeQuick, p.mode)

	dir := t.TempDir()
	vars := map[string]string{
		"PHANTOM_MODE": "standard", "PHANTOM_MATRIX": "full", "PHANTOM_DIR": dir,
		"PHANTOM_DISK_UNSAFE": "1", "PHANTOM_STRICT": "true", "PHANTOM_SEED": "42",
		"PHANTOM_WATCHDOG": "3m", "PHANTOM_NODES": "5", "PHANTOM_CLIENTS": "8",
		"PHANTOM_TRANSACTIONS": "7", "PHANTOM_QUERIES": "9", "PHANTOM_DURATION": "90s",
		"PHANTOM_DATA": "2MiB", "PHANTOM_DISK": "shared", "PHANTOM_NET": "tcp",
		"PHANTOM_GROUPS": "3", "PHANTOM_SIZE": "", // empty is unset
	}
	p, err = fromEnvironment(environment(vars))
	require.NoError(t, err)
	want := &params{
		mode: ModeStandard, full: true, dir: dir, diskUnsafe: true, strict: true, seed: 42,
		watchdog: 3 * time.Minute, span: 90 * time.Second,
		numbers: map[string]int{"nodes": 5, "clients": 8, "groups": 3, "transactions": 7, "queries": 9, "data": 2 << 20},
		words:   map[string]string{"disk": "shared", "net": "tcp"},
		given:   map[string]bool{},
	}
	for name, value := range vars {
		if value != "" {
			want.given[strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "PHANTOM_")), "_", "-")] = true
		}
	}
	require.Equal(t, want, p)
}

// The parameters that DESIGN and the help promise, by mode.
func TestModesSetTheirParameters(t *testing.T) {
	for mode, want := range map[Mode]string{
		ModeQuick:       "nodes=20 clients=20 transactions=5000 queries=5000 duration=250ms data=1000000",
		ModeStandard:    "nodes=20 clients=20 transactions=5000 queries=5000 duration=1m0s data=1000000",
		ModeStress:      "nodes=20 clients=256 transactions=50000 queries=50000 duration=1m0s data=64000000",
		ModeLongRunning: "nodes=20 clients=20 transactions=5000 queries=5000 duration=1h0m0s data=1000000",
	} {
		p, err := fromEnvironment(environment(map[string]string{"PHANTOM_MODE": string(mode)}))
		require.NoError(t, err)
		require.Contains(t, p.String(), "mode!="+string(mode)+" matrix=quick "+want+" seed=1 disk=any net=any groups=any size=any dir=")
	}
}

func TestEveryParameterIsPrinted(t *testing.T) {
	p, err := fromEnvironment(environment(map[string]string{"PHANTOM_DISK": "none", "PHANTOM_SIZE": "4KiB", "PHANTOM_NODES": "3"}))
	require.NoError(t, err)
	table := p.table()
	require.Len(t, table, len(knobs()))
	require.Contains(t, table, Setting{Name: "disk", Value: "none", Given: true})
	require.Contains(t, table, Setting{Name: "size", Value: "4096", Given: true})
	require.Contains(t, table, Setting{Name: "nodes", Value: "3", Given: true})
	for _, s := range table {
		require.NotEmpty(t, s.Value, s.Name)
	}
}

func TestBadParametersNameTheVariable(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	for name, value := range map[string]string{
		"PHANTOM_MODE": "fast", "PHANTOM_MATRIX": "all", "PHANTOM_DIR": gone,
		"PHANTOM_DISK_UNSAFE": "maybe", "PHANTOM_STRICT": "2", "PHANTOM_SEED": "-1",
		"PHANTOM_WATCHDOG": "10ms", "PHANTOM_NODES": "0", "PHANTOM_CLIENTS": "100001",
		"PHANTOM_GROUPS": "many", "PHANTOM_SIZE": "67108865", "PHANTOM_TRANSACTIONS": "0",
		"PHANTOM_QUERIES": "-5", "PHANTOM_DURATION": "60", "PHANTOM_DATA": "9000000000000GB",
		"PHANTOM_DISK": "fast", "PHANTOM_NET": "udp", "PHANTOM_LIST": "yes",
	} {
		_, err := fromEnvironment(environment(map[string]string{name: value}))
		require.ErrorContains(t, err, name+"="+`"`+value+`": want `)
	}
	for _, bad := range []string{"1ns", "1000h", "-1s"} {
		_, err := fromEnvironment(environment(map[string]string{"PHANTOM_DURATION": bad}))
		require.ErrorContains(t, err, "want a duration from 1ms to 168h0m0s")
	}
}

func TestSizesHaveUnits(t *testing.T) {
	for text, want := range map[string]int{
		"1MB": 1_000_000, "1MiB": 1 << 20, "64kB": 64_000, "2KB": 2000, "3KiB": 3072, "5B": 5, "7": 7, "1GB": 1e9, "1GiB": 1 << 30,
	} {
		v, err := parseNumber("data", text)
		require.NoError(t, err)
		require.Equal(t, want, v, text)
	}
	_, err := parseNumber("clients", "1MB")
	require.Error(t, err, "clients have no bytes")
	_, err = parseNumber("data", "9223372036854775807GiB")
	require.Error(t, err, "overflow")
	_, err = parseNumber("data", "-18446744073709551KB")
	require.Error(t, err, "overflow on the other side")
}

func TestFlagsWinOverEnvironment(t *testing.T) {
	p, err := fromEnvironment(environment(map[string]string{"PHANTOM_CLIENTS": "8", "PHANTOM_SEED": "4"}))
	require.NoError(t, err)
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	register(fs, p)
	require.NoError(t, fs.Parse([]string{"-phantom.clients=16", "-phantom.strict", "-phantom.mode", "standard"}))
	require.Equal(t, 16, p.number("clients"))
	require.True(t, p.strict)
	require.Equal(t, ModeStandard, p.mode)
	require.EqualValues(t, 4, p.seed)
	require.ErrorContains(t, fs.Parse([]string{"-phantom.clients=0"}), "want an integer from 1 to 100000")
	require.Error(t, fs.Parse([]string{"-phantom.disk-unsafe=perhaps"}))
}

func TestUnknownVariablesAreNoticed(t *testing.T) {
	require.Equal(t, []string{"PHANTOM_CLIENT", "PHANTOM_NODE"},
		unknownVariables([]string{"PHANTOM_NODE=5", "PHANTOM_NODES=5", "HOME=/", "PHANTOM_CLIENT=1"}))
}

// with sets the parameters for the length of a test.
func with(t testing.TB, change func(*params)) {
	t.Helper()
	old := settings()
	p := *old
	p.numbers, p.words, p.given = map[string]int{}, map[string]string{}, map[string]bool{}
	change(&p)
	chosen.Store(&p)
	t.Cleanup(func() { chosen.Store(old) })
}

func TestPinnedAxisHasOneValue(t *testing.T) {
	with(t, func(p *params) {
		require.NoError(t, numberKnob("clients").apply(p, "7"))
		require.NoError(t, wordKnob("disk").apply(p, "none"))
	})
	require.Equal(t, []int{7}, Axis("clients", 1, 64))
	require.Equal(t, []int{3, 5}, Axis("nodes", 3, 5))
	require.Equal(t, []string{"none"}, Axis("disk", "sync", "none"))
	require.Equal(t, []string{"sim", "tcp"}, Axis("net", "sim", "tcp"))
	require.Equal(t, 7, Clients())
	require.Panics(t, func() { Axis("colour", 1) })
	require.Panics(t, func() { Axis("transactions", 1) }, "no axis, a parameter")
	require.Panics(t, func() { Axis("clients", "many") })
	require.Panics(t, func() { Axis("disk", 1) })
}

func TestModeDecidesTheSubset(t *testing.T) {
	with(t, func(p *params) { p.mode, p.full = ModeQuick, false })
	require.True(t, Quick())
	require.False(t, Full())
	with(t, func(p *params) { p.mode, p.full = ModeQuick, true })
	require.False(t, Quick())
	require.True(t, Full())
	with(t, func(p *params) { p.mode, p.seed = ModeStandard, 9 })
	require.False(t, Quick())
	require.Equal(t, ModeStandard, CurrentMode())
	require.EqualValues(t, 9, Seed())
}

func TestDiskLabelShowsUnsafe(t *testing.T) {
	with(t, func(p *params) { p.diskUnsafe = false })
	require.Equal(t, "sync", DiskLabel("sync"))
	with(t, func(p *params) { p.diskUnsafe = true })
	require.Equal(t, "unsafe", DiskLabel("sync"))
	require.Equal(t, "unsafe-shared", DiskLabel("shared"))
	require.Equal(t, "none", DiskLabel("none"))
}

// What a run says of its disk is of the one where package testing puts data.
func TestFolderOfData(t *testing.T) {
	p := defaults()
	t.Setenv("GOTMPDIR", "")
	require.Equal(t, os.TempDir(), p.dataDir())
	t.Setenv("GOTMPDIR", "elsewhere")
	require.Equal(t, "elsewhere", p.dataDir())
	require.Contains(t, p.table(), Setting{Name: "dir", Value: "elsewhere"})
	p.dir = "asked"
	require.Equal(t, "asked", p.dataDir())
}
