package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

func TestEnvironmentOfThisMachine(t *testing.T) {
	dir := t.TempDir()
	e := probeEnvironment(dir)
	require.NoError(t, artifact.WriteEnvironment(dir, e), "the reader accepts it")
	require.Equal(t, runtime.NumCPU(), e.Cores)
	require.Equal(t, runtime.Version(), e.Go)
	require.NotNil(t, e.Loopback)
	require.Positive(t, e.Loopback.P50)
	require.NotNil(t, e.Disk)
	require.Equal(t, probeBlock, e.Disk.Block)
	require.Positive(t, e.Disk.Fsync.P50)
	require.Equal(t, hasDataFlush, e.Disk.Fdatasync != nil)
	require.NotEqual(t, e.ID, probeEnvironment(dir).ID, "two processes differ")
	if runtime.GOOS == "linux" {
		require.NotEmpty(t, e.Kernel)
		require.Positive(t, e.Memory)
		require.Len(t, e.Load, 3)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "the probe's file is gone")

	require.Nil(t, probeDisk(filepath.Join(dir, "gone")), "absent, not zero")
}

func TestCommitOfThisSource(t *testing.T) {
	want, err := exec.CommandContext(t.Context(), "git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Skipf("not in a work tree of git (%v)", err)
	}
	commit, _ := sourceRevision()
	require.Equal(t, strings.TrimSpace(string(want)), commit)
	t.Chdir(t.TempDir())
	t.Setenv("GIT_CEILING_DIRECTORIES", "/")
	t.Setenv("GIT_DIR", t.TempDir())
	commit, modified := sourceRevision()
	require.Empty(t, commit, "outside of a work tree there is none")
	require.False(t, modified)
}

// describe reads a tree of files as Linux shows them.
func describe(t *testing.T, files map[string]string) artifact.Environment {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	var e artifact.Environment
	describeLinux(&e, root)
	return e
}

func TestEnvironmentOfLinux(t *testing.T) {
	cpu := "processor\t: 0\nmodel name\t: Fast One\nflags\t\t: fpu hypervisor sse\n\nprocessor\t: 1\nmodel name\t: Other\n"
	files := map[string]string{
		"proc/cpuinfo": cpu, "proc/meminfo": "MemTotal:       1024 kB\nMemFree: 5 kB\n",
		"proc/loadavg": "0.50 1.25 2.00 3/456 789\n", "proc/sys/kernel/osrelease": "6.1.2-x\n",
		"sys/class/dmi/id/sys_vendor": "ACME\n", "sys/class/dmi/id/product_name": "Big  VM\n",
	}
	want := artifact.Environment{
		CPU: "Fast One", Memory: 1 << 20, Load: []float64{0.5, 1.25, 2}, Kernel: "6.1.2-x", Virtualization: "ACME Big VM",
	}
	require.Equal(t, want, describe(t, files))

	delete(files, "sys/class/dmi/id/sys_vendor")
	delete(files, "sys/class/dmi/id/product_name")
	require.Equal(t, "yes", describe(t, files).Virtualization)
	files["sys/hypervisor/type"] = "xen\n"
	require.Equal(t, "xen", describe(t, files).Virtualization)
	require.Empty(t, describe(t, map[string]string{"proc/cpuinfo": "flags: fpu\n", "sys/class/dmi/id/sys_vendor": "ACME\n"}).Virtualization,
		"a vendor alone is a machine of metal")
}

// What is cut off or nonsense is absent.
func TestEnvironmentOfBrokenFiles(t *testing.T) {
	require.Equal(t, artifact.Environment{}, describe(t, nil))
	for _, text := range []string{"", "\x00\x00", "MemTotal:", "MemTotal: -5 kB\n", "MemTotal: 99999999999999999999 kB\n", "MemTotal: 5 MB\n", strings.Repeat("x", 1<<20)} {
		e := describe(t, map[string]string{"proc/meminfo": text, "proc/loadavg": "0.5 x", "proc/cpuinfo": text})
		require.Equal(t, artifact.Environment{}, e, "%.40q", text)
	}
}
