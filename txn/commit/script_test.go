package commit

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// The scripts in testdata tell how transactions end, message by message.
//
//	txn [protocol=two-phase] [floating]   begins one at ts=10; each line of input is a
//	                                      shard and its keys, the first key is the anchor
//	deliver [all | n]                     the oldest message under way, or others
//	lose n | double n                     a message under way
//	retry | crash | give-up | refreshed [failed]
//	recover key=a [look]                  because somebody met that key
//	push shard=a                          reads there push all that is prepared later
//	refuse shard=a                        the next Prepare, by its table of locks
//	fence shard=a | window shard=a        fences the node, moves the edge past the start
//	hold key=a | release key=a            somebody else's intent
//	write key=a                           a version of somebody else at ts=12
//	split part=n                          of the coordinator, key by key
//	show
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			p := &play{t: t}
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				p.t = t
				p.command(d)
				text := strings.ReplaceAll(p.out.String(), "0.000000+", "")
				p.out.Reset()
				return text
			})
		})
	}
}

// A play is a world of one transaction, with a rival that only holds and writes keys.
type play struct {
	t      *testing.T
	out    strings.Builder
	sc     *scene
	shards []shard
	pushed []bool
	refuse []bool
	actors []machine // the coordinator, and then recoveries; nil if gone
	mail   []envelope
}

func (p *play) say(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }

func (p *play) command(d *datadriven.TestData) {
	switch d.Cmd {
	case "txn":
		p.begin(d)
	case "deliver":
		p.deliverSome(d)
	case "lose", "double", "split":
		p.meddle(d)
	case "retry":
		for i := range p.actors {
			p.step(i, Input{Kind: Retry})
		}
	case "crash":
		p.leave(0)
	case "give-up":
		p.step(0, Input{Kind: GiveUp, Reason: Deadline})
	case "refreshed":
		p.step(0, Input{Kind: Refreshed, OK: !d.HasArg("failed")})
	case "recover":
		h := Hint{Keys: []string{p.arg(d, "key")}}
		if !d.HasArg("look") {
			h.Abort = Abandoned
		}
		p.actors = append(p.actors, NewRecovery(p.sc.txns[0].Txn, h))
		p.step(len(p.actors)-1, Input{Kind: Begin})
	case "hold", "release", "write":
		p.rival(d.Cmd, p.arg(d, "key"))
	case "push", "refuse", "fence", "window":
		p.accident(d.Cmd, int(p.sc.lives(p.arg(d, "shard"))))
	case "show":
		p.show()
	default:
		d.Fatalf(p.t, "unknown command %s", d.Cmd)
	}
}

func (p *play) arg(d *datadriven.TestData, name string) (value string) {
	d.ScanArgs(p.t, name, &value)
	return value
}

func (p *play) begin(d *datadriven.TestData) {
	*p = play{t: p.t, sc: &scene{}}
	protocol := OneRound
	if d.HasArg("protocol") {
		require.Equal(p.t, TwoPhase.String(), p.arg(d, "protocol"))
		protocol = TwoPhase
	}
	for line := range strings.Lines(d.Input) {
		keys := strings.Fields(line)
		p.sc.shards = append(p.sc.shards, keys)
		var s shard
		for _, k := range keys {
			s.Keys = append(s.Keys, cell{Name: k})
		}
		p.shards = append(p.shards, s)
	}
	p.pushed, p.refuse = make([]bool, len(p.shards)), make([]bool, len(p.shards))
	rival := plan(2, OneRound, false, 12, []string{"?"})
	p.sc.txns = []Plan{plan(1, protocol, d.HasArg("floating"), 10, p.sc.shards...), rival}
	c, err := NewCoordinator(p.sc.txns[0])
	require.NoError(p.t, err)
	p.actors = []machine{c}
	p.step(0, Input{Kind: Begin})
}

// who names an actor.
func who(actor int) string {
	switch actor {
	case nobody:
		return "nobody"
	case 0:
		return "coordinator"
	}
	return fmt.Sprintf("recovery %d", actor)
}

func (p *play) step(actor int, in Input) {
	if m := p.actors[actor]; m != nil {
		p.take(actor, m.Step(in))
	}
}

func (p *play) take(actor int, out []Output) {
	require.NoError(p.t, p.actors[actor].check())
	for _, o := range slices.Clone(out) {
		if o.Kind != Send {
			p.say("%s: %v", who(actor), o)
		}
		switch o.Kind {
		case Send:
			for _, e := range p.sc.mail(int8(actor), o) {
				p.post(e)
			}
		case Finished:
			p.leave(actor)
		}
	}
}

func (p *play) post(e envelope) {
	p.mail = append(p.mail, e)
	p.say("%d. %s", len(p.mail), p.name(e))
}

func (p *play) name(e envelope) string {
	if e.req != nil {
		return fmt.Sprintf("%s to %s: %v", who(int(e.actor)), p.sc.shards[e.shard][0], e.req)
	}
	return fmt.Sprintf("%s to %s: %v", p.sc.shards[e.shard][0], who(int(e.actor)), e.reply)
}

// leave takes an actor away, and the replies to it.
func (p *play) leave(actor int) {
	p.actors[actor] = nil
	p.mail = slices.DeleteFunc(p.mail, func(e envelope) bool { return int(e.actor) == actor && e.reply != nil })
	for i := range p.mail {
		if int(p.mail[i].actor) == actor {
			p.mail[i].actor = nobody
		}
	}
}

func (p *play) deliverSome(d *datadriven.TestData) {
	n := 1
	switch {
	case d.HasArg("all"):
		for len(p.mail) > 0 {
			p.deliver(0)
		}
		return
	case len(d.CmdArgs) > 0:
		_, err := fmt.Sscan(d.CmdArgs[0].Key, &n)
		require.NoError(p.t, err)
	}
	p.deliver(n - 1)
}

func (p *play) deliver(i int) {
	e := p.mail[i]
	p.mail = slices.Delete(p.mail, i, i+1)
	p.say("-> %s", p.name(e))
	if e.reply != nil {
		p.step(int(e.actor), Input{Kind: Got, Part: int(e.part), Reply: e.reply})
		return
	}
	sh := &p.shards[e.shard]
	_, keys := about(e.req)
	l, ts := sh.local(p.sc, 0, keys), p.sc.txns[0].TS
	if p.pushed[e.shard] {
		ts += pushed
	}
	if _, ok := e.req.(Prepare); ok && p.refuse[e.shard] {
		l.Refuse, p.refuse[e.shard] = Wounded, false
	}
	require.NoError(p.t, l.check())
	effect, reply := evaluate(e.req, l, ts)
	_, err := sh.apply(p.sc, 0, effect)
	require.NoError(p.t, err)
	p.say("   %v", effect)
	if e.actor != nobody {
		e.req, e.reply = nil, reply
		p.post(e)
	}
}

func (p *play) meddle(d *datadriven.TestData) {
	if d.Cmd == "split" {
		var part int
		d.ScanArgs(p.t, "part", &part)
		c := p.actors[0].(*Coordinator)
		p.take(0, c.Resplit(part, singly(c.parts[part].keys)))
		return
	}
	var n int
	_, err := fmt.Sscan(d.CmdArgs[0].Key, &n)
	require.NoError(p.t, err)
	if e := p.mail[n-1]; d.Cmd == "double" {
		p.post(e)
	} else {
		p.mail = slices.Delete(p.mail, n-1, n)
		p.say("lost %s", p.name(e))
	}
}

func (p *play) rival(what, key string) {
	c := p.shards[p.sc.lives(key)].cell(key)
	switch what {
	case "hold":
		c.Of[1].Intent = 12
	case "release":
		c.Of[1].Intent = 0
	case "write":
		c.Newest = 12
	}
}

func (p *play) accident(what string, i int) {
	switch what {
	case "push":
		p.pushed[i] = true
	case "refuse":
		p.refuse[i] = true
	case "fence":
		p.shards[i].Fenced = true
	case "window":
		p.shards[i].move()
	}
}

func (p *play) show() {
	for i, m := range p.actors {
		if m != nil {
			p.say("%s: %v", who(i), m)
		}
	}
	for _, s := range p.shards {
		for _, c := range s.Keys {
			o, what := c.Of[0], "nothing"
			switch {
			case o.Intent != 0:
				what = fmt.Sprintf("intent ts=%v", o.Intent)
			case o.Applied != 0:
				what = fmt.Sprintf("version ts=%v", o.Applied)
			case o.Buried:
				what = "tombstone"
			}
			if o.Record.Status != Pending {
				what += "; record " + o.Record.String()
			}
			p.say("%s: %s", c.Name, what)
		}
	}
}
