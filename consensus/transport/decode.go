package transport

import (
	"encoding/binary"
	"errors"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

const (
	// maxFrameMessages and maxFrameEntries bound what a frame makes the
	// receiver allocate: a byte on the wire can stand for a hundred in memory.
	// A full append of Raft (1 MiB of its own encoding) has at most 175,000
	// entries. maxFrameIDs bounds the replicas that the configurations in a
	// frame name, each a byte on the wire at least and eight in memory.
	maxFrameMessages = 1 << 16
	maxFrameEntries  = 1 << 18
	maxFrameIDs      = 1 << 16
	// minMessageBytes is the shortest encoding of a message.
	minMessageBytes = 5
)

// errFormat is wrapped by every error about bytes that are no frame.
var errFormat = errors.New("malformed frame")

// Values that decoded messages share: nobody writes through their pointers.
var (
	sharedFalse        = false
	sharedTrue         = true
	sharedMessageTypes = func() (t [maxMessageType + 1]pb.MessageType) {
		for i := range t {
			t[i] = pb.MessageType(i)
		}
		return t
	}()
	sharedEntryTypes = [...]pb.EntryType{pb.EntryNormal, pb.EntryConfChange, pb.EntryConfChangeV2}
)

func sharedBool(v bool) *bool {
	if v {
		return &sharedTrue
	}
	return &sharedFalse
}

// A decoder reads messages out of a frame's body. Values of one kind come out
// of one piece of memory each, and Data, Context and Payload are cut out of
// the body itself. The first error sticks.
type decoder struct {
	body []byte
	at   int
	err  error

	rafts   []pb.Message
	entries []pb.Entry
	lists   []*pb.Entry
	numbers []uint64
	refs    int // bytes cut out of the body
}

// appendBody appends the body of a frame of messages, whose shapes add up to
// sum.
func appendBody(dst []byte, m []Message, sum shape) []byte {
	dst = appendCounts(dst, len(m), sum)
	for i := range m {
		dst = appendMessage(dst, &m[i])
	}
	return dst
}

func appendCounts(dst []byte, count int, sum shape) []byte {
	dst = binary.AppendUvarint(dst, uint64(count))
	dst = binary.AppendUvarint(dst, uint64(sum.messages))
	dst = binary.AppendUvarint(dst, uint64(sum.entries))
	return binary.AppendUvarint(dst, uint64(sum.numbers))
}

// decodeBody appends the messages of a body to dst. They keep body if refs is
// not zero; then it belongs to them.
func decodeBody(dst []Message, body []byte) (m []Message, refs int, err error) {
	d := decoder{body: body}
	count := d.bounded("messages", min(maxFrameMessages, uint64(len(body)/minMessageBytes)))
	rafts := d.bounded("Raft messages", uint64(count))
	entries := d.bounded("entries", min(maxFrameEntries, uint64(len(body))))
	numbers := d.bounded("numbers", uint64(maxNumbers(rafts, entries)))
	if d.err != nil {
		return dst, 0, d.err
	}
	d.rafts = make([]pb.Message, rafts)
	d.entries = make([]pb.Entry, entries)
	d.lists = make([]*pb.Entry, entries)
	d.numbers = make([]uint64, numbers)
	for range count {
		dst = append(dst, Message{})
		d.message(&dst[len(dst)-1])
		if d.err != nil {
			return dst, 0, d.err
		}
	}
	switch {
	case d.at != len(body):
		d.fail("%d bytes after the last message", len(body)-d.at)
	case len(d.rafts)+len(d.entries)+len(d.numbers) != 0:
		d.fail("announced %d Raft messages, %d entries and %d numbers too many", len(d.rafts), len(d.entries), len(d.numbers))
	}
	return dst, d.refs, d.err
}

// maxNumbers bounds the numbers of a frame: a Raft message has up to ten with
// those of a snapshot, an entry two.
func maxNumbers(rafts, entries int) int { return 10*rafts + 2*entries + maxFrameIDs }

// believable tells whether a receiver takes a frame of this shape.
func (s shape) believable() bool {
	return s.entries <= maxFrameEntries && s.numbers <= maxNumbers(s.messages, s.entries)
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("transport: %w: offset %d: %s", errFormat, d.at, fmt.Sprintf(format, args...))
		d.at = len(d.body)
	}
}

func (d *decoder) byte(what string) byte {
	if d.at >= len(d.body) {
		d.fail("%s missing", what)
		return 0
	}
	d.at++
	return d.body[d.at-1]
}

func (d *decoder) uvarint(what string) uint64 {
	if d.at < len(d.body) && d.body[d.at] < 0x80 {
		d.at++
		return uint64(d.body[d.at-1])
	}
	v, n := binary.Uvarint(d.body[d.at:])
	if n <= 0 {
		d.fail("%s is cut off or over 64 bits", what)
		return 0
	}
	d.at += n
	return v
}

// bounded reads a count that must not exceed limit.
func (d *decoder) bounded(what string, limit uint64) int {
	v := d.uvarint(what)
	if v > limit {
		d.fail("%d %s, at most %d are possible", v, what, limit)
		return 0
	}
	return int(v)
}

// bytes cuts a length-prefixed piece out of the body; it is never nil.
func (d *decoder) bytes(what string) []byte {
	n := d.bounded(what, uint64(len(d.body)))
	if n > len(d.body)-d.at {
		d.fail("%s of %d bytes in %d", what, n, len(d.body)-d.at)
		return []byte{}
	}
	d.at += n
	d.refs += n
	return d.body[d.at-n : d.at : d.at]
}

// number keeps v in the slab; without room it returns nil.
func (d *decoder) number(v uint64) *uint64 {
	if len(d.numbers) == 0 {
		d.fail("more numbers than announced")
		return nil
	}
	p := &d.numbers[0]
	d.numbers = d.numbers[1:]
	*p = v
	return p
}

func (d *decoder) message(m *Message) {
	m.Group = raftlog.GroupID(d.uvarint("group"))
	m.From = raftlog.ReplicaID(d.uvarint("from"))
	m.To = raftlog.ReplicaID(d.uvarint("to"))
	m.Kind = d.byte("kind")
	if m.Kind != 0 {
		m.Payload = d.bytes("payload")
		return
	}
	if len(d.rafts) == 0 {
		d.fail("more Raft messages than announced")
		return
	}
	m.Raft = &d.rafts[0]
	d.rafts = d.rafts[1:]
	d.raft(m.Raft)
}

func (d *decoder) raft(r *pb.Message) {
	fields := uint16(d.byte("fields"))
	fields |= uint16(d.byte("fields")) << 8
	if fields&^knownFields != 0 || fields&(hasReject|rejectTrue) == rejectTrue {
		d.fail("fields %#x of a Raft message, known are %#x", fields, knownFields)
		return
	}
	if fields&hasType != 0 {
		r.Type = &sharedMessageTypes[d.bounded("message type", uint64(maxMessageType))]
	}
	for i, p := range [...]**uint64{&r.To, &r.From, &r.Term, &r.LogTerm, &r.Index, &r.Commit, &r.Vote, &r.RejectHint} {
		if fields&(hasTo<<i) != 0 {
			*p = d.number(d.uvarint("field of a Raft message"))
		}
	}
	if fields&hasReject != 0 {
		r.Reject = sharedBool(fields&rejectTrue != 0)
	}
	if fields&hasContext != 0 {
		r.Context = d.bytes("context")
	}
	if fields&hasEntries != 0 {
		d.entriesOf(r)
	}
	if fields&hasSnapshot != 0 {
		r.Snapshot = d.snapshot()
	}
}

func (d *decoder) entriesOf(r *pb.Message) {
	n := d.bounded("entries of a message", uint64(len(d.entries)))
	if n == 0 {
		d.fail("a message with an empty list of entries")
		return
	}
	list := d.lists[:n:n]
	d.lists = d.lists[n:]
	term, index := r.LogTerm, r.GetIndex()
	for i := range list {
		e := &d.entries[i]
		list[i] = e
		flags := d.byte("entry flags")
		if flags&^knownEntryFlags != 0 || flags&entryTermMask == entryTermMask || flags&entryIndexMask == entryIndexMask {
			d.fail("flags %#x of an entry", flags)
			return
		}
		if t := flags & entryTypeMask; t != 0 {
			e.Type = &sharedEntryTypes[t-1]
		}
		switch flags & entryTermMask {
		case entryTermSame:
			if term == nil {
				d.fail("an entry has the term of one before that has none")
				return
			}
			e.Term = term
		case entryTermGiven:
			e.Term = d.number(d.uvarint("term of an entry"))
			term = e.Term
		}
		switch flags & entryIndexMask {
		case entryIndexNext:
			index++
			e.Index = d.number(index)
		case entryIndexGiven:
			index = d.uvarint("index of an entry")
			e.Index = d.number(index)
		}
		if flags&entryHasData != 0 {
			e.Data = d.bytes("data of an entry")
		}
		if d.err != nil {
			return
		}
	}
	d.entries = d.entries[n:]
	r.Entries = list
}

func (d *decoder) snapshot() *pb.Snapshot {
	flags := d.byte("snapshot flags")
	const ofMeta = snapshotHasConf | snapshotHasIndex | snapshotHasTerm
	if flags&^knownSnapshotBits != 0 || flags&ofMeta != 0 && flags&snapshotHasMeta == 0 ||
		flags&snapshotHasAuto != 0 && flags&snapshotHasConf == 0 ||
		flags&snapshotAutoLeave != 0 && flags&snapshotHasAuto == 0 {
		d.fail("flags %#x of a snapshot", flags)
		return nil
	}
	s := &pb.Snapshot{}
	if flags&snapshotHasData != 0 {
		s.Data = d.bytes("data of a snapshot")
	}
	if flags&snapshotHasMeta == 0 {
		return s
	}
	s.Metadata = &pb.SnapshotMetadata{}
	if flags&snapshotHasIndex != 0 {
		s.Metadata.Index = d.number(d.uvarint("index of a snapshot"))
	}
	if flags&snapshotHasTerm != 0 {
		s.Metadata.Term = d.number(d.uvarint("term of a snapshot"))
	}
	if flags&snapshotHasConf != 0 {
		c := &pb.ConfState{}
		if flags&snapshotHasAuto != 0 {
			c.AutoLeave = sharedBool(flags&snapshotAutoLeave != 0)
		}
		for _, p := range [...]*[]uint64{&c.Voters, &c.Learners, &c.VotersOutgoing, &c.LearnersNext} {
			*p = d.ids()
		}
		s.Metadata.ConfState = c
	}
	return s
}

// ids reads a list of replicas; an empty one is nil.
func (d *decoder) ids() []uint64 {
	n := d.bounded("ids", uint64(len(d.numbers)))
	if n == 0 {
		return nil
	}
	list := d.numbers[:n:n]
	d.numbers = d.numbers[n:]
	for i := range list {
		list[i] = d.uvarint("id")
	}
	return list
}
