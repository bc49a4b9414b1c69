package consensus_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A benchmark measures what its name says or tells why not: two nodes hold no
// three replicas.
func TestProposeRefusesFewNodes(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for _, nodes := range []string{"1", "2"} {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^$", "-test.bench=^BenchmarkPropose$", "-test.benchtime=1x")
		for _, kv := range os.Environ() {
			if !strings.HasPrefix(kv, "PHANTOM_") {
				cmd.Env = append(cmd.Env, kv)
			}
		}
		cmd.Env = append(cmd.Env, "PHANTOM_NODES="+nodes, "PHANTOM_STRICT=1")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		require.True(t, errors.As(err, &exit), "a benchmark ran: %s", out)
		require.Equal(t, 1, exit.ExitCode(), "%s", out)
		require.Contains(t, string(out), "# skipped BenchmarkPropose/nodes="+nodes+"/disk=none/net=sim/groups=1/clients=64/size=128: nodes="+nodes+": want 3 or more, one for each replica\n")
		require.NotRegexp(t, `(?m)^BenchmarkPropose\S*\s+\d`, string(out), "no line")
	}
}
