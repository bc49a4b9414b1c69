package harness

import (
	"flag"
	"io"
	"path/filepath"
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
	p, err = fromEnvironment(environment(map[string]string{
		"PHANTOM_MODE": "standard", "PHANTOM_MATRIX": "full", "PHANTOM_DIR": dir,
		"PHANTOM_DISK_UNSAFE": "1", "PHANTOM_STRICT": "true", "PHANTOM_SEED": "42",
		"PHANTOM_WATCHDOG": "3m", "PHANTOM_NODES": "5", "PHANTOM_CLIENTS": "8",
		"PHANTOM_SIZE": "", // empty is unset
	}))
	require.NoError(t, err)
	require.Equal(t, &params{
		mode: ModeStandard, full: true, dir: dir, diskUnsafe: true, strict: true, seed: 42,
		watchdog: 3 * time.Minute, axes: map[string]int{"nodes": 5, "clients": 8},
	}, p)
}

func TestBadParametersNameTheVariable(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	for name, value := range map[string]string{
		"PHANTOM_MODE": "fast", "PHANTOM_MATRIX": "all", "PHANTOM_DIR": gone,
		"PHANTOM_DISK_UNSAFE": "maybe", "PHANTOM_STRICT": "2", "PHANTOM_SEED": "-1",
		"PHANTOM_WATCHDOG": "10ms", "PHANTOM_NODES": "0", "PHANTOM_CLIENTS": "100001",
		"PHANTOM_GROUPS": "many", "PHANTOM_SIZE": "67108865",
	} {
		_, err := fromEnvironment(environment(map[string]string{name: value}))
		require.ErrorContains(t, err, name+"="+`"`+value+`": want `)
	}
}

func TestFlagsWinOverEnvironment(t *testing.T) {
	p, err := fromEnvironment(environment(map[string]string{"PHANTOM_CLIENTS": "8", "PHANTOM_SEED": "4"}))
	require.NoError(t, err)
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	register(fs, p)
	require.NoError(t, fs.Parse([]string{"-phantom.clients=16", "-phantom.strict", "-phantom.mode", "standard"}))
	require.Equal(t, 16, p.axes["clients"])
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
	p.axes = map[string]int{}
	change(&p)
	chosen.Store(&p)
	t.Cleanup(func() { chosen.Store(old) })
}

func TestPinnedAxisHasOneValue(t *testing.T) {
	with(t, func(p *params) { p.axes["clients"] = 7 })
	require.Equal(t, []int{7}, Axis("clients", 1, 64))
	require.Equal(t, []int{3, 5}, Axis("nodes", 3, 5))
	require.Panics(t, func() { Axis("colour", 1) })
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

func TestName(t *testing.T) {
	require.Equal(t, "disk=sync/net=sim/clients=64", Name("disk", "sync", "net", "sim", "clients", 64))
	require.Equal(t, "rtt=0/p99=10ms", Name("rtt", time.Duration(0), "p99", 10*time.Millisecond))
	for _, bad := range [][]any{
		{}, {"disk"}, {"Disk", 1}, {"di sk", 1}, {"9p", 1}, {"", 1}, {1, 1},
		{"disk", ""}, {"disk", "a/b"}, {"disk", "a b"}, {"disk", "a=b"},
	} {
		require.Panics(t, func() { Name(bad...) }, "%v", bad)
	}
}
