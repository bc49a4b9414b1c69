package meta_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// The scripts in testdata are lives of clusters, command by command. Each prints
// its answer, and is run a second time, which must give the same and change nothing.
//
//	init cluster=7 request=1 [locality=(a,b)]
//	join request=2 [node=9] [cluster=7] [formats=(1,1)]
//	start node=1 epoch=1 address=a:1 [cluster=7]
//	declare node=1 epoch=1 condition=suspect
//	drain node=1 [off] | remove node=1
//	create request=5 span=(a,m) nodes=(1,2) [want=3]
//	report shard=2 version=9 members=(1@1,2@3l) [generation=1] [span=(a,k)]
//	want shard=2 want=5
//	begin shard=2 kind=swap [from=1] [to=2] | end shard=2 move=1
//	restart                  from what is stored
//	show
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			l := newLedger(t)
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				l.t = t
				return l.step(d)
			})
		})
	}
}

// A ledger is a machine of the meta group, and somebody who follows it.
type ledger struct {
	t        testing.TB
	m        *meta.Machine
	index    uint64
	follower *meta.State
}

func newLedger(t testing.TB) *ledger {
	l := &ledger{t: t, follower: new(meta.State)}
	var err error
	l.m, err = meta.New(kv.Options{})
	require.NoError(t, err)
	_, err = l.m.Open()
	require.NoError(t, err)
	return l
}

// run applies commands as one batch.
func (l *ledger) run(commands ...meta.Command) []meta.Answer {
	l.t.Helper()
	l.index++
	b := &consensus.Batch{Index: l.index, Term: 1}
	for _, c := range commands {
		b.Commands = append(b.Commands, meta.Encode(nil, c))
	}
	results := make([]consensus.Result, len(b.Commands))
	require.NoError(l.t, l.m.Apply(b, results))
	var answers []meta.Answer
	for _, r := range results {
		a, err := meta.ParseAnswer(r.Data)
		require.NoError(l.t, err)
		answers = append(answers, a)
	}
	require.NoError(l.t, l.m.State().Check())
	l.follow()
	return answers
}

// follow brings the follower up to date and compares.
func (l *ledger) follow() {
	l.t.Helper()
	d := l.m.Since(l.follower.Index)
	got, err := meta.ParseDelta(d.Append(nil))
	require.NoError(l.t, err)
	l.follower, err = l.follower.Follow(got)
	require.NoError(l.t, err)
	require.Equal(l.t, l.m.State().String(), l.follower.String())
	require.NoError(l.t, l.follower.Check())
}

func (l *ledger) do(c meta.Command) string {
	l.t.Helper()
	first := l.run(c)[0]
	before := l.pairs()
	again := l.run(c)[0]
	require.Equal(l.t, first, again, "%#v done again", c)
	require.Equal(l.t, before, l.pairs(), "%#v done again", c)
	if err := first.Err(); err != nil {
		return err.Error()
	}
	return fmt.Sprint("ok ", first.ID)
}

// pairs is what the machine stores.
func (l *ledger) pairs() string {
	var b strings.Builder
	l.m.Scan(nil, nil, func(key, value []byte) bool {
		fmt.Fprintf(&b, "%x %x\n", key, value)
		return true
	})
	return b.String()
}

func (l *ledger) step(d *datadriven.TestData) string {
	switch d.Cmd {
	case "show":
		return l.m.State().String()
	case "restart":
		old := l.m
		l.m = newLedger(l.t).m
		require.NoError(l.t, install(l.t, old, l.m))
		require.Equal(l.t, old.State().String(), l.m.State().String())
		require.Equal(l.t, old.State().Index, l.m.State().Index)
		return "ok"
	}
	c := command(l.t, d)
	if c, ok := c.(*meta.Drain); ok && !d.HasArg("turn") {
		if n, ok := l.m.State().Node(c.Node); ok {
			c.Turn = n.Turns
		}
	}
	if c, ok := c.(*meta.Declare); ok && !d.HasArg("turn") {
		if n, ok := l.m.State().Node(c.Node); ok {
			c.Turn = n.Told
		}
	}
	return l.do(c)
}

// install gives one machine what another holds.
func install(t testing.TB, from, to consensus.StateMachine) error {
	v, err := from.View()
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = v.WriteTo(&b)
	require.NoError(t, err)
	require.NoError(t, v.Close())
	staged, err := to.Stage(&b)
	require.NoError(t, err)
	return staged.Install(t.Context())
}

func command(t testing.TB, d *datadriven.TestData) meta.Command {
	id := func(key string) (v uint64) { d.MaybeScanArgs(t.(*testing.T), key, &v); return v }
	text := func(key string) (v string) { d.MaybeScanArgs(t.(*testing.T), key, &v); return v }
	list := func(key string) []string {
		for _, a := range d.CmdArgs {
			if a.Key == key {
				return a.Vals
			}
		}
		return nil
	}
	profile := meta.Profile{Locality: list("locality"), Formats: meta.Range{Min: 1, Max: 1}}
	if f := list("formats"); f != nil {
		_, err := fmt.Sscan(strings.Join(f, " "), &profile.Formats.Min, &profile.Formats.Max)
		require.NoError(t, err)
	}
	span := func() (s meta.Span) {
		if v := list("span"); len(v) > 0 {
			s.Start = v[0]
			if len(v) > 1 {
				s.End = v[1]
			}
		}
		return s
	}
	node, shard := consensus.NodeID(id("node")), meta.ShardID(id("shard"))
	switch d.Cmd {
	case "init":
		return &meta.Init{Cluster: id("cluster"), Format: meta.Format, Request: id("request"), Profile: profile}
	case "join":
		return &meta.Join{Cluster: id("cluster"), Request: id("request"), Node: node, Profile: profile}
	case "start":
		return &meta.Start{Cluster: id("cluster"), Node: node, Epoch: id("epoch"), Nonce: id("nonce"), Address: text("address"), Profile: profile}
	case "declare":
		conditions := map[string]meta.Condition{"joining": meta.Joining, "live": meta.Live, "suspect": meta.Suspect, "dead": meta.Dead}
		return &meta.Declare{Node: node, Epoch: id("epoch"), Condition: conditions[text("condition")], Turn: id("turn")}
	case "drain":
		return &meta.Drain{Node: node, Off: d.HasArg("off"), Turn: id("turn")}
	case "remove":
		return &meta.Remove{Node: node}
	case "create":
		c := &meta.Create{Request: id("request"), Span: span(), Want: 3}
		d.MaybeScanArgs(t.(*testing.T), "want", &c.Want)
		for _, n := range list("nodes") {
			var v uint64
			_, err := fmt.Sscan(n, &v)
			require.NoError(t, err)
			c.Nodes = append(c.Nodes, consensus.NodeID(v))
		}
		return c
	case "report":
		c := &meta.Report{Shard: shard, Version: id("version"), Generation: id("generation"), Span: span()}
		for _, v := range list("members") {
			var m meta.Member
			_, err := fmt.Sscanf(v, "%d@%d", &m.Replica, &m.Node)
			require.NoError(t, err)
			m.Learner = strings.HasSuffix(v, "l")
			c.Members = append(c.Members, m)
		}
		return c
	case "want":
		return &meta.Want{Shard: shard, Want: int(id("want"))}
	case "begin":
		kinds := map[string]meta.MoveKind{"add": meta.MoveAdd, "remove": meta.MoveRemove, "swap": meta.MoveSwap, "split": meta.MoveSplit, "merge": meta.MoveMerge}
		return &meta.Begin{
			Shard: shard, Kind: kinds[text("kind")], From: consensus.NodeID(id("from")), To: consensus.NodeID(id("to")),
			Key: text("key"), Other: meta.ShardID(id("other")), Why: text("why"),
		}
	case "end":
		return &meta.End{Shard: shard, Move: id("move")}
	}
	d.Fatalf(t.(*testing.T), "unknown command")
	return nil
}
