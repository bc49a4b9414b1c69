package consensus

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// An applyTask is committed entries on their way into the machine.
type applyTask struct {
	r         *replica
	entries   []*pb.Entry
	own       []*batch // own[i] is the batch of entries[i], or nil
	rows      []Row    // the configuration, if it changes
	responses []*pb.Message
	err       error
}

// apply takes committed entries from Raft. Configuration changes and the
// outcomes of own batches are settled here, on the worker; commands go to the
// machine, here or on the apply workers.
func (r *replica) apply(m *pb.Message) {
	if parts := cutAlone(m); parts != nil {
		for _, part := range parts {
			r.apply(part)
		}
		return
	}
	if r.applying {
		r.backlog = append(r.backlog, m)
		return
	}
	if r.gone || r.host.stopping.Load() || r.host.dead.Load() {
		return // the log has the entries, and whoever waits is told by abandon
	}
	t := &applyTask{r: r, entries: m.GetEntries(), responses: m.GetResponses()}
	if len(r.inflight) > 0 {
		t.own = make([]*batch, len(t.entries))
	}
	for i, e := range t.entries {
		if b := r.settle(e); b != nil {
			t.own[i] = b
		}
		if e.GetType() != pb.EntryNormal {
			if err := r.applyConfChange(t, e); err != nil {
				t.abandon(err)
				r.fail(fmt.Errorf("apply index %d: %w", e.GetIndex(), err))
				return
			}
		}
	}
	if r.host.opts.AsyncApply {
		r.applying = true
		r.busy++
		r.host.wg.Add(1)
		r.host.pool.applier.post(t)
		return
	}
	t.run(&r.w.scratch)
	r.appliedTask(t)
}

// cutAlone cuts what is to be applied before and behind each command that stands
// alone. It returns nil if there is nothing to cut.
func cutAlone(m *pb.Message) []*pb.Message {
	list := m.GetEntries()
	if len(list) == 1 {
		return nil
	}
	var parts []*pb.Message
	from := 0
	cut := func(to int) {
		if to > from {
			parts = append(parts, &pb.Message{Type: m.Type, Entries: list[from:to]})
			from = to
		}
	}
	for i, e := range list {
		if standsAlone(e) {
			cut(i)
			cut(i + 1)
		}
	}
	if parts == nil {
		return nil
	}
	cut(len(list))
	parts[len(parts)-1].Responses = m.GetResponses()
	return parts
}

// appliedAsync takes a task back from the apply workers.
func (r *replica) appliedAsync(t *applyTask) {
	r.applying = false
	r.letGo()
	if r.gone || r.host.dead.Load() {
		if t.err != nil {
			t.abandon(t.err)
		}
		return
	}
	r.appliedTask(t)
	for len(r.backlog) > 0 && !r.applying && !r.gone {
		m := r.backlog[0]
		r.backlog = r.backlog[1:]
		r.apply(m)
	}
	r.runInstall()
}

// appliedTask follows up on what was applied: Raft is told, readers are let
// go, the log may be cut.
func (r *replica) appliedTask(t *applyTask) {
	if t.err != nil {
		t.abandon(t.err)
		r.fail(fmt.Errorf("apply: %w", t.err))
		return
	}
	last := t.entries[len(t.entries)-1]
	r.applied.Store(last.GetIndex())
	if t.own != nil {
		r.noteEnded(t.own)
	}
	r.respond(t.responses)
	r.releaseReads()
	if r.role == raft.StateLeader && !r.leadReady && last.GetTerm() == r.term {
		r.leadReady = true
		r.event(EventReady)
		r.fortify()
	}
	r.changeApplied()
	r.compact()
	r.seekRemoval()
}

// abandon ends the wait for the batches of a task that was not applied, and for
// a change among them if nobody has done so.
func (t *applyTask) abandon(why error) {
	for _, b := range t.own {
		if b != nil && !b.ended() {
			t.r.finish(b, unknown(t.r.group, why))
		}
	}
}

// ignoreWritten is a raftlog.Completion for writes that nobody waits for but
// that should be synced soon.
type ignoreWritten struct{}

func (ignoreWritten) Written(error) {}

// run applies the task's commands to the machine and wakes the clients. a is
// the caller's scratch.
func (t *applyTask) run(a *applyBatch) {
	r := t.r
	a.reset(t)
	for i, e := range t.entries {
		if e.GetType() != pb.EntryNormal || len(e.GetData()) == 0 {
			continue
		}
		if err := a.add(e, t.ownBatch(i)); err != nil {
			t.err = fmt.Errorf("index %d: %w", e.GetIndex(), err)
			return
		}
	}
	last := t.entries[len(t.entries)-1]
	rows := t.rows
	if len(a.rows) > 0 {
		rows = append(rows, a.rows...)
	}
	b := &Batch{Index: last.GetIndex(), Term: last.GetTerm(), Commands: a.commands, Rows: rows, Alone: standsAlone(t.entries[0])}
	if t.err = a.apply(r.sm, b); t.err != nil {
		return
	}
	r.reached.Store(last.GetIndex())
	for _, own := range t.own {
		if own != nil && own.count > 0 {
			r.finish(own, nil)
		}
	}
	r.commands.Add(uint64(len(a.commands)))
	r.host.stats.applied.Add(uint64(len(a.commands)))
}

func (t *applyTask) ownBatch(i int) *batch {
	if t.own == nil {
		return nil
	}
	return t.own[i]
}

// An applyBatch gathers the commands of the entries of a task. Its slices are
// used again for the next one.
type applyBatch struct {
	sessions *sessions
	task     *applyTask
	decoded  []decodedCommand
	commands [][]byte
	results  []Result // of commands; handed over to clients if any wait
	rows     []Row
	spans    []span  // own batches whose commands are all plain
	places   []place // other commands, where somebody waits or a session records
	once     bool    // a session records a result
}

// A span is an own batch whose results are count results of the machine in a
// row.
type span struct {
	own          *batch
	first, count int
}

// A place says where the result of a machine command goes. A place with
// copyOf > 0 is a retry of the command at places[copyOf-1].
type place struct {
	own               *batch
	pos               int
	command           int // index into commands, -1 if answered already
	session, sequence uint64
	index             uint64
	copyOf            int
	result            []byte
	size, maxResult   uint64 // of a session's result, and the most that is kept
}

// maxScratch bounds the elements kept for reuse after a burst.
const maxScratch = 8192

// reset prepares for a task and drops what the last one left.
func (a *applyBatch) reset(t *applyTask) {
	if cap(a.commands) > maxScratch {
		*a = applyBatch{}
	}
	clear(a.decoded)
	clear(a.commands)
	clear(a.results)
	clear(a.rows)
	clear(a.spans)
	clear(a.places)
	*a = applyBatch{
		task: t, sessions: t.r.sessions, decoded: a.decoded[:0], commands: a.commands[:0],
		results: a.results[:0], rows: a.rows[:0], spans: a.spans[:0], places: a.places[:0],
	}
}

// add decodes one entry and decides about each of its commands.
func (a *applyBatch) add(e *pb.Entry, own *batch) error {
	var err error
	a.decoded, err = decodeBatch(a.decoded[:0], e.GetData())
	if err != nil {
		return err
	}
	plain := true
	for pos := range a.decoded {
		plain = plain && a.decoded[pos].kind == commandPlain
	}
	if plain {
		if own != nil {
			a.spans = append(a.spans, span{own: own, first: len(a.commands), count: len(a.decoded)})
		}
		for pos := range a.decoded {
			a.commands = append(a.commands, a.decoded[pos].data)
		}
		return nil
	}
	if own != nil {
		own.results = make([]Result, len(a.decoded))
	}
	for pos := range a.decoded {
		c := &a.decoded[pos]
		switch c.kind {
		case commandPlain, commandAlone:
			if own != nil {
				a.places = append(a.places, place{own: own, pos: pos, command: len(a.commands)})
			}
			a.commands = append(a.commands, c.data)
		case commandOnce:
			a.addOnce(c, e.GetIndex(), own, pos)
		default:
			a.control(c, e.GetIndex(), own, pos)
		}
	}
	return nil
}

// addOnce handles a command that may be a retry.
func (a *applyBatch) addOnce(c *decodedCommand, index uint64, own *batch, pos int) {
	fresh, kept, maxResult, err := a.sessions.check(c.session, c.sequence)
	p := place{own: own, pos: pos, command: -1, session: c.session, sequence: c.sequence, index: index, maxResult: maxResult}
	answer, refused := a.refuses(c.data, fresh)
	switch {
	case err != nil:
		own.refuse(pos, fmt.Errorf("consensus: group %d: session %d: %w", a.task.r.group, c.session, err))
		return
	case refused:
		p.result, p.session = answer, 0
	case fresh:
		a.once = true
		a.sessions.reserve(c.session, c.sequence, index)
		p.command = len(a.commands)
		a.commands = append(a.commands, c.data)
	default:
		p.result, p.size = kept.result, kept.size
		for i := range a.places { // its first copy may be in this very task
			if q := &a.places[i]; q.command >= 0 && q.session == c.session && q.sequence == c.sequence {
				p.copyOf = i + 1
			}
		}
	}
	a.places = append(a.places, p)
}

// refuses asks the machine whether it would refuse a command that is not a retry.
func (a *applyBatch) refuses(command []byte, fresh bool) (answer []byte, ok bool) {
	if r, is := a.task.r.sm.(Refuser); is && fresh {
		return r.Refuses(command)
	}
	return nil, false
}

// control handles a command of the Host's own.
func (a *applyBatch) control(c *decodedCommand, index uint64, own *batch, pos int) {
	g := a.task.r.group
	switch c.kind {
	case commandOpen:
		id := index*maxOrdinals + uint64(pos)
		limit, maxResult, err := decodeLimits(c.data)
		var row Row
		if err == nil {
			row, err = a.sessions.open(id, index, limit, maxResult)
		}
		if err != nil {
			own.refuse(pos, rejected(g, err))
			return
		}
		a.rows = append(a.rows, row)
		if own != nil {
			own.results[pos] = Result{Data: binary.LittleEndian.AppendUint64(nil, id)}
		}
	case commandExpire:
		e, err := decodeExpiry(c.data)
		if err != nil {
			own.refuse(pos, rejected(g, err))
			return
		}
		rows, next := a.sessions.expire(e.before, e.from, e.limit)
		a.rows = append(a.rows, rows...)
		if own != nil {
			own.results[pos] = Result{Data: binary.LittleEndian.AppendUint64(nil, next)}
		}
	}
}

// refuse notes that one command of the batch was not applied. b may be nil:
// nobody waits here.
func (b *batch) refuse(pos int, err error) {
	if b == nil {
		return
	}
	if b.errs == nil {
		b.errs = make([]error, b.count)
	}
	b.errs[pos] = err
}

// apply runs the machine and hands out the results. The results of sessions
// are rows of the very batch that makes them.
func (a *applyBatch) apply(sm StateMachine, b *Batch) error {
	n := len(a.commands)
	if len(a.spans) > 0 || cap(a.results) < n {
		a.results = make([]Result, n)
	} else {
		a.results = a.results[:n]
	}
	results := a.results
	if a.once {
		b.ResultRows = a.sessionRows
	}
	if err := sm.Apply(b, results); err != nil {
		return err
	}
	for _, s := range a.spans {
		s.own.results = results[s.first : s.first+s.count : s.first+s.count]
	}
	if len(a.spans) > 0 {
		a.results = nil // the clients' now
	}
	for i := range a.places {
		p := &a.places[i]
		switch {
		case p.command >= 0:
			p.result = results[p.command].Data
			p.size = uint64(len(p.result))
		case p.copyOf > 0:
			p.result, p.size = a.places[p.copyOf-1].result, a.places[p.copyOf-1].size
		}
		a.answer(p)
	}
	return nil
}

// answer tells the client of p. A result that is too large to be kept is not
// told to the first attempt either: a retry could not be told the same.
func (a *applyBatch) answer(p *place) {
	switch {
	case p.own == nil:
	case p.session != 0 && p.size > p.maxResult:
		p.own.refuse(p.pos, fmt.Errorf("consensus: group %d: session %d: %w: %d bytes, expected at most %d",
			a.task.r.group, p.session, ErrResultTooLarge, p.size, p.maxResult))
	default:
		p.own.results[p.pos] = Result{Data: p.result}
	}
}

// sessionRows records the results of commands that carry a session.
func (a *applyBatch) sessionRows(results []Result) []Row {
	var rows []Row
	for i := range a.places {
		p := &a.places[i]
		if p.session == 0 || p.command < 0 {
			continue
		}
		if row, ok := a.sessions.record(p.session, p.sequence, p.index, results[p.command].Data); ok {
			rows = append(rows, row)
		}
	}
	return rows
}
