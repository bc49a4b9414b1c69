package harness

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestName(t *testing.T) {
	require.Equal(t, "disk=sync/net=sim/clients=64", Name("disk", "sync", "net", "sim", "clients", 64))
	require.Equal(t, "rtt=0/p99=10ms", Name("rtt", time.Duration(0), "p99", 10*time.Millisecond))
	require.Equal(t, "day=2026-05x/size=1-/kind=8", Name("day", "2026-05x", "size", "1-", "kind", 8))
	for _, bad := range [][]any{
		{}, {"disk"}, {"Disk", 1}, {"di sk", 1}, {"9p", 1}, {"", 1}, {1, 1},
		{"disk", ""}, {"disk", "a/b"}, {"disk", "a b"}, {"disk", "a=b"},
		{"kind", "read-8"}, {"kind", "read-16", "clients", 4}, {"skew", -1}, {"step", 1e-9},
	} {
		require.Panics(t, func() { Name(bad...) }, "%v", bad)
	}
}

// On one processor read-8 and read-16 would be one benchmark on 8 processors
// and on 16.
func TestNameThatEndsLikeProcessors(t *testing.T) {
	stdout, _, status := child(t, "digits", nil, append(benchArgs, "-test.benchtime=1x", "-test.cpu=1")...)
	require.Equal(t, 1, status)
	require.Contains(t, stdout, "harness: BenchmarkChild/read-8: want a name that does not end in a hyphen and digits, which stand for processors\n")
	require.NotRegexp(t, `(?m)^BenchmarkChild/read-8\s+\d`, stdout)
	require.Regexp(t, `(?m)^BenchmarkChild/read-8x\s+1\s`, stdout, "another name is measured")
}
