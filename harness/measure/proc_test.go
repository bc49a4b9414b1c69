package measure

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// machine is a tree of files as Linux shows them.
var machine = map[string]string{
	"proc/self/status": "Name:\tx\nVmPeak:\t 2000 kB\nVmHWM:\t    1024 kB\nVmRSS:\t     512 kB\nThreads:\t7\n",
	"proc/self/io": "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 8192\n" +
		"cancelled_write_bytes: 0\n",
	"proc/self/cgroup":                    "12:cpu:/old\n0::/user/box\n",
	"proc/stat":                           "cpu  100 1 20 3000 4 5 6 70 8 9\ncpu0 1 2 3 4 5 6 7 8 9 10\nctxt 123\n",
	"proc/pressure/cpu":                   "some avg10=8.64 avg60=13.36 avg300=10.37 total=2667453217\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
	"proc/pressure/io":                    "some avg10=0.47 avg60=0.55 avg300=2.15 total=351879136\n",
	"sys/fs/cgroup/user/box/cpu.pressure": "some avg10=0 avg60=0 avg300=0 total=11\nfull avg10=0 avg60=0 avg300=0 total=12\n",
	"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2600000\n",
}

// tree writes files below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return root
}

// readTree returns every meter that the tree has a value for.
func readTree(t *testing.T, root string) map[string]float64 {
	t.Helper()
	m := openMeters(newRuntimeSource(), procSources(root))
	defer func() { require.NoError(t, m.Close()) }()
	s := m.NewSnapshot()
	m.readAll()
	for i, at := range m.present {
		s.Values[i] = m.all[at]
	}
	got := map[string]float64{}
	for i, one := range m.list {
		require.False(t, math.IsNaN(s.Values[i]), one.Name)
		got[one.Name] = s.Values[i]
	}
	return got
}

func TestMetersOfLinux(t *testing.T) {
	require.Equal(t, map[string]float64{
		"rss": 512 << 10, "rss-peak": 1024 << 10, "threads": 7,
		"os-read-calls": 3, "os-write-calls": 4, "os-read": 4096, "os-write": 8192,
		"machine-cpu": (100 + 1 + 20 + 5 + 6) * 1e7, "machine-idle": 3004 * 1e7, "machine-steal": 70 * 1e7,
		"psi-cpu-some": 2667453217e3, "psi-cpu-full": 0, "psi-io-some": 351879136e3,
		"cgroup-psi-cpu-some": 11e3, "cgroup-psi-cpu-full": 12e3,
		"cpu0-frequency": 2.6e9,
	}, readTree(t, tree(t, machine)))
}

// Whatever is cut off or nonsense is absent, never zero and never half a number.
func TestMetersOfBrokenFiles(t *testing.T) {
	with := func(path, text string) map[string]float64 {
		return readTree(t, tree(t, map[string]string{path: text}))
	}
	require.Empty(t, readTree(t, t.TempDir()))
	for path := range machine {
		require.Empty(t, with(path, ""), path)
		require.Empty(t, with(path, strings.Repeat("\x00", 3*maxProcBytes)), path)
		require.Empty(t, with(path, strings.Repeat("total=9", 3*maxProcBytes)), path)
	}
	require.Equal(t, map[string]float64{"rss-peak": 1 << 20},
		with("proc/self/status", "VmHWM:\t1024 kB\nVmRSS:\t51"), "the last digits may be missing")
	require.Empty(t, with("proc/self/status", "VmRSS:\t-5 kB\n"))
	require.Empty(t, with("proc/self/status", "VmRSS:\t9999999999999999999 kB\n"), "too large for anything real")
	require.Empty(t, with("proc/self/status", "VmRSS:\t5x kB\n"))
	require.Equal(t, map[string]float64{"machine-idle": 9e7}, with("proc/stat", "cpu  1 2 3 4 5 6"),
		"the first to miss a summand is absent")
	require.Empty(t, with("proc/stat", "intr 5\ncpu  1 2 3 4 5 6 7 8\n"))
	require.Empty(t, with("proc/pressure/cpu", "some avg10=0.00 total=\n"))
	require.Empty(t, with("proc/pressure/cpu", "none total=5\n"))
	require.Empty(t, with("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unknown>\n"))
}

// A group that lies outside must not lead the reader out of the tree.
func TestHostileControlGroup(t *testing.T) {
	for _, line := range []string{"0::/../../../etc\n", "0::/x/../../../../etc\n", "0::/\n", "0::\n", "1:cpu:/user/box\n", strings.Repeat("0::/", 100_000)} {
		files := map[string]string{
			"proc/self/cgroup": line, "etc/cpu.pressure": "some total=1\n", "sys/fs/cgroup/cpu.pressure": "some total=1\n",
		}
		require.Empty(t, cgroup(tree(t, files)), "%.40q", line)
	}
	root := tree(t, map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/unified/a/cpu.pressure": ""})
	require.Equal(t, "sys/fs/cgroup/unified/a", cgroup(root))
}

// A pipe in the place of a file would be waited for, for ever.
func TestPipesAreNotRead(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pipes are made in another way on this platform")
	}
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/self"), 0o755))
	for _, name := range []string{"proc/self/io", "proc/self/cgroup"} {
		require.NoError(t, mkfifo(filepath.Join(root, name)))
	}
	require.Empty(t, readTree(t, root))
}

// A file that goes away while the meters are open leaves NaN behind and not its
// last value.
func TestFileThatBecomesUnreadable(t *testing.T) {
	root := tree(t, machine)
	m := openMeters(newRuntimeSource(), procSources(root))
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/self/io"), nil, 0o600))
	m.readAll()
	s := &Snapshot{}
	for _, at := range m.present {
		s.Values = append(s.Values, m.all[at])
	}
	_, ok := m.Value(s, "os-write-calls")
	require.False(t, ok)
	v, ok := m.Value(s, "rss")
	require.True(t, ok)
	require.InDelta(t, 512<<10, v, 0)
	_, ok = m.Value(s, "no such meter")
	require.False(t, ok)
	require.NoError(t, m.Close())
	m.readAll()
	for _, v := range m.all {
		require.True(t, math.IsNaN(v), "a closed file has no value")
	}
}
