package consensus_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// The scripts in testdata tell stories of whole clusters. Everything in them
// happens because a line says so; elections draw from a seeded source. Every
// command prints what happened since the one before it.
//
//	boot [nodes=3] [replicas=3] [quiesce=ticks] [tail=bytes]
//	tick [n=1] [nodes=(1,2)]      advance the clocks, tick the nodes, run
//	run                           run and deliver until nothing moves
//	campaign node=1
//	propose node=1 k=v            several keys are several commands
//	read node=1
//	transfer node=1 to=2
//	create node=4 replica=4       a replica that waits to be added
//	reconfigure node=1            with lines such as "add-learner 4 on 4"
//	isolate nodes=(1) | heal
//	drop kind=(MsgApp) [from=1] [to=2], drop off; hold likewise
//	crash node=1 | restart node=1
//	stall node=4                  see manualNode
//	status | lease | get k=()
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			runScript(t, func(t *testing.T, step func(*testing.T, *datadriven.TestData) string) {
				datadriven.RunTest(t, path, step)
			})
		})
	}
}

// A script run again does the same, message by message.
func TestScriptsReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	for _, path := range files {
		input, err := os.ReadFile(path)
		require.NoError(t, err)
		trace := func() string {
			return runScript(t, func(t *testing.T, step func(*testing.T, *datadriven.TestData) string) {
				datadriven.RunTestFromString(t, string(input), step)
			})
		}
		first := trace()
		require.Greater(t, strings.Count(first, "\n"), 20, path)
		require.Equal(t, first, trace(), path)
	}
}

// runScript runs one script in a bubble and returns its trace.
func runScript(t *testing.T, run func(*testing.T, func(*testing.T, *datadriven.TestData) string)) string {
	cryptotest.SetGlobalRandom(t, 1)
	s := &script{}
	synctest.Test(t, func(t *testing.T) { run(t, s.step) })
	return s.m.trace.String()
}

type script struct{ m *manual }

func (s *script) step(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "boot" {
		s.m = bootManual(t, bootOptions(t, d))
		return s.m.take()
	}
	m := s.m
	if out, ok := s.show(t, d); ok {
		return out
	}
	switch d.Cmd {
	case "tick":
		n := 1
		d.MaybeScanArgs(t, "n", &n)
		m.tick(n, nodes(t, d, "nodes")...)
	case "run":
	case "campaign":
		require.NoError(t, m.host(node(t, d)).Campaign(1))
	case "propose":
		for _, a := range d.CmdArgs {
			if a.Key != "node" {
				m.propose(node(t, d), a.Key, a.Vals[0])
			}
		}
	case "read":
		m.read(node(t, d))
	case "transfer":
		m.transfer(node(t, d), consensus.ReplicaID(number(t, d, "to")))
	case "create":
		require.NoError(t, m.host(node(t, d)).Create(1, consensus.ReplicaID(number(t, d, "replica")), consensus.Initial{}))
	case "reconfigure":
		m.reconfigure(node(t, d), steps(t, d)...)
	default:
		s.fault(t, d)
	}
	m.settle()
	return m.take()
}

func bootOptions(t *testing.T, d *datadriven.TestData) manualOptions {
	var o manualOptions
	quiesce, tail := -1, 0
	d.MaybeScanArgs(t, "nodes", &o.nodes)
	d.MaybeScanArgs(t, "replicas", &o.replicas)
	d.MaybeScanArgs(t, "quiesce", &quiesce)
	d.MaybeScanArgs(t, "tail", &tail)
	o.host = func(h *consensus.Options) { h.QuiesceTicks, h.LogTailBytes = quiesce, int64(tail) }
	return o
}

// fault runs the commands that break and mend things.
func (s *script) fault(t *testing.T, d *datadriven.TestData) {
	m := s.m
	switch d.Cmd {
	case "isolate":
		m.isolate(nodes(t, d, "nodes")...)
	case "heal":
		m.wire.Heal()
	case "drop":
		m.lose = filter(t, d)
	case "hold":
		m.hold = filter(t, d)
	case "crash":
		m.crash(node(t, d))
	case "restart":
		m.restart(node(t, d))
	case "stall":
		shut(&m.node(node(t, d)).stall)
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
}

// show runs the commands that only look.
func (s *script) show(t *testing.T, d *datadriven.TestData) (string, bool) {
	var b strings.Builder
	switch d.Cmd {
	case "status":
		for _, n := range s.m.nodes {
			fmt.Fprintf(&b, "%d %s\n", n.id, s.describe(n))
		}
	case "lease":
		for _, id := range s.m.holders() {
			l, _ := s.m.host(id).Lease(1)
			fmt.Fprintf(&b, "%d term=%d, for %v\n", id, l.Term, (l.Until - s.m.node(id).clock.Mono()).Round(time.Millisecond))
		}
		if b.Len() == 0 {
			return "nobody", true
		}
	case "get":
		for _, a := range d.CmdArgs {
			b.WriteString(a.Key + ":")
			for _, n := range s.m.nodes {
				v := "."
				if n.host != nil && len(n.host.Groups()) > 0 {
					v = s.m.get(n.id, a.Key)
				}
				b.WriteString(" " + v)
			}
			b.WriteString("\n")
		}
	case "pending":
		for _, c := range s.m.calls {
			b.WriteString(c.name + "\n")
		}
	default:
		return "", false
	}
	return b.String(), true
}

func (s *script) describe(n *manualNode) string {
	if n.host == nil {
		return "down"
	}
	if len(n.host.Groups()) == 0 {
		return "no replica"
	}
	st := s.m.status(n.id)
	text := fmt.Sprintf("%s term=%d leader=%d commit=%d applied=%d log=%d..%d",
		st.Role, st.Term, st.Leader, st.Commit, st.Applied, st.First, st.Last)
	var ids []string
	for _, v := range st.Voters {
		ids = append(ids, fmt.Sprint(v.Replica))
	}
	text += " voters=" + strings.Join(ids, ",")
	if len(st.Learners) > 0 {
		text += fmt.Sprintf(" learners=%d", st.Learners[0].Replica)
	}
	if st.Joint {
		text += " joint"
	}
	if st.Asleep {
		text += " asleep"
	}
	return text
}

func number(t *testing.T, d *datadriven.TestData, key string) uint64 {
	t.Helper()
	a, ok := d.Arg(key)
	require.True(t, ok, "%s: %s needs %s=", d.Pos, d.Cmd, key)
	v, err := strconv.ParseUint(a.SingleVal(t), 10, 64)
	require.NoError(t, err, d.Pos)
	return v
}

func node(t *testing.T, d *datadriven.TestData) consensus.NodeID {
	t.Helper()
	return consensus.NodeID(number(t, d, "node"))
}

func nodes(t *testing.T, d *datadriven.TestData, key string) []consensus.NodeID {
	t.Helper()
	a, ok := d.Arg(key)
	if !ok {
		return nil
	}
	var list []consensus.NodeID
	for _, v := range a.Vals {
		id, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err, d.Pos)
		list = append(list, consensus.NodeID(id))
	}
	return list
}

// filter reads which messages to drop or hold.
func filter(t *testing.T, d *datadriven.TestData) func(transport.Pending) bool {
	if d.HasArg("off") {
		return nil
	}
	a, ok := d.Arg("kind")
	require.True(t, ok, "%s: %s needs kind=", d.Pos, d.Cmd)
	from, to := nodes(t, d, "from"), nodes(t, d, "to")
	return func(p transport.Pending) bool {
		return slices.Contains(a.Vals, kindOf(p)) &&
			(from == nil || slices.Contains(from, p.From)) && (to == nil || slices.Contains(to, p.To))
	}
}

var stepKinds = map[string]consensus.ChangeKind{
	"add-learner": consensus.AddLearner, "add-voter": consensus.AddVoter,
	"promote": consensus.Promote, "demote": consensus.Demote, "remove": consensus.Remove,
}

// steps reads lines such as "add-learner 4 on 4" and "remove 3".
func steps(t *testing.T, d *datadriven.TestData) []consensus.ChangeStep {
	var list []consensus.ChangeStep
	for line := range strings.Lines(d.Input) {
		var word string
		var replica, at uint64
		_, _ = fmt.Sscanf(line, "%s %d on %d", &word, &replica, &at)
		kind, ok := stepKinds[word]
		require.True(t, ok, "%s: %q", d.Pos, line)
		list = append(list, consensus.ChangeStep{Kind: kind, Member: consensus.Member{
			Replica: consensus.ReplicaID(replica), Node: consensus.NodeID(at),
		}})
	}
	return list
}
