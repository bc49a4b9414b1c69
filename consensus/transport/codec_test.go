package transport

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// A maker draws messages of every shape: each optional field is absent, zero,
// small or huge.
type maker struct{ *rand.Rand }

func newMaker(seed uint64) maker { return maker{rand.New(rand.NewPCG(seed, 0))} }

func (r maker) number() *uint64 {
	switch r.IntN(5) {
	case 0:
		return nil
	case 1:
		return proto.Uint64(0)
	case 2:
		return proto.Uint64(r.Uint64())
	}
	return proto.Uint64(r.Uint64N(300))
}

func (r maker) bool() *bool {
	if r.IntN(3) == 0 {
		return nil
	}
	return proto.Bool(r.IntN(2) == 0)
}

func (r maker) data() []byte {
	switch r.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	b := make([]byte, r.IntN(300))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (r maker) ids() []uint64 {
	var ids []uint64
	for range r.IntN(4) {
		ids = append(ids, r.Uint64N(1<<20))
	}
	return ids
}

func (r maker) entry(term, index uint64) *pb.Entry {
	e := &pb.Entry{Data: r.data()}
	if r.IntN(4) > 0 {
		e.Type = pb.EntryType(r.IntN(int(maxEntryType) + 1)).Enum()
	}
	e.Term, e.Index = r.number(), r.number()
	if r.IntN(3) > 0 { // as Raft makes them
		e.Term, e.Index = proto.Uint64(term), proto.Uint64(index)
	}
	return e
}

func (r maker) raft() *pb.Message {
	m := &pb.Message{
		To: r.number(), From: r.number(), Term: r.number(), LogTerm: r.number(), Index: r.number(),
		Commit: r.number(), Vote: r.number(), RejectHint: r.number(), Reject: r.bool(), Context: r.data(),
	}
	if r.IntN(30) > 0 {
		m.Type = pb.MessageType(r.IntN(int(maxMessageType) + 1)).Enum()
	}
	if r.IntN(2) == 0 {
		term := m.GetLogTerm()
		for i := range r.IntN(8) {
			term += r.Uint64N(2)
			m.Entries = append(m.Entries, r.entry(term, m.GetIndex()+1+uint64(i)))
		}
	}
	if r.IntN(4) == 0 {
		m.Snapshot = &pb.Snapshot{Data: r.data()}
		if r.IntN(4) > 0 {
			m.Snapshot.Metadata = &pb.SnapshotMetadata{Index: r.number(), Term: r.number()}
			if r.IntN(4) > 0 {
				m.Snapshot.Metadata.ConfState = &pb.ConfState{
					Voters: r.ids(), Learners: r.ids(), VotersOutgoing: r.ids(), LearnersNext: r.ids(), AutoLeave: r.bool(),
				}
			}
		}
	}
	return m
}

func (r maker) messages(n int) []Message {
	m := make([]Message, n)
	for i := range m {
		m[i] = Message{Group: raftlog.GroupID(r.Uint64N(1 << 40)), From: raftlog.ReplicaID(r.Uint64N(200)), To: raftlog.ReplicaID(r.Uint64())}
		if r.IntN(4) == 0 {
			m[i].Kind = uint8(1 + r.IntN(255))
			m[i].Payload = append([]byte{}, r.data()...)
		} else {
			m[i].Raft = r.raft()
		}
	}
	return m
}

// equal compares by proto.Equal, which tells an absent field from a zero.
func equal(a, b []Message) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d messages against %d", len(a), len(b))
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Group != y.Group || x.From != y.From || x.To != y.To || x.Kind != y.Kind ||
			!bytes.Equal(x.Payload, y.Payload) || !proto.Equal(x.Raft, y.Raft) {
			return fmt.Errorf("message %d: %+v against %+v", i, x, y)
		}
	}
	return nil
}

func sumOf(m []Message) (sum shape) {
	for i := range m {
		sum.add(shapeOf(&m[i]))
	}
	return sum
}

func TestCodecRoundTrip(t *testing.T) {
	r := newMaker(1)
	types := make(map[pb.MessageType]int)
	for range 3000 {
		m := r.messages(r.IntN(12))
		sum := sumOf(m)
		body := appendBody(nil, m, sum)
		require.Equal(t, bytesOf(m), headerBytes+len(body), "the size is exact")
		got, _, err := decodeBody(nil, body)
		require.NoError(t, err)
		require.NoError(t, equal(m, got))
		for i := range m {
			if m[i].Raft != nil {
				types[m[i].Raft.GetType()]++
			}
		}
	}
	require.Len(t, types, int(maxMessageType)+1, "every type was drawn")
}

// What came out must not change when the sender's memory does, and the body
// is reported as kept exactly if something points into it.
func TestCodecSharesNothingWithTheSender(t *testing.T) {
	data := []byte("abc")
	m := []Message{{Group: 1, Raft: &pb.Message{Entries: []*pb.Entry{{Data: data, Term: proto.Uint64(7)}}}}}
	got, refs, err := decodeBody(nil, appendBody(nil, m, sumOf(m)))
	require.NoError(t, err)
	require.Equal(t, 3, refs)
	data[0] = 'X'
	*m[0].Raft.Entries[0].Term = 8
	require.Equal(t, "abc", string(got[0].Raft.Entries[0].Data))
	require.Equal(t, uint64(7), got[0].Raft.Entries[0].GetTerm())

	m = numbered(3)
	_, refs, err = decodeBody(nil, appendBody(nil, m, sumOf(m)))
	require.NoError(t, err)
	require.Zero(t, refs)
}

func TestCodecRefusesEveryTruncation(t *testing.T) {
	r := newMaker(2)
	for range 100 {
		m := r.messages(1 + r.IntN(4))
		body := appendBody(nil, m, sumOf(m))
		for cut := range body {
			_, _, err := decodeBody(nil, body[:cut:cut])
			require.ErrorIs(t, err, errFormat, "cut at %d of %d", cut, len(body))
		}
		_, _, err := decodeBody(nil, append(body, 0))
		require.ErrorIs(t, err, errFormat)
	}
}

// Counts are believed within limits only, so that few bytes cannot ask for
// much memory.
func TestCodecRefusesCounts(t *testing.T) {
	one := numbered(1)
	right := sumOf(one)
	for want, sum := range map[string]shape{
		"2 Raft messages, at most 1":   {messages: 2, numbers: right.numbers},
		"1048576 entries, at most":     {messages: 1, numbers: right.numbers, entries: 1 << 20},
		"1073741824 numbers, at most":  {messages: 1, numbers: 1 << 30},
		"and 1 numbers too many":       {messages: 1, numbers: right.numbers + 1},
		"more numbers than announced":  {messages: 1},
		"more Raft messages than anno": {numbers: right.numbers},
	} {
		_, _, err := decodeBody(nil, appendBody(nil, one, sum))
		require.ErrorIs(t, err, errFormat)
		require.ErrorContains(t, err, want)
	}
	_, _, err := decodeBody(nil, append([]byte{0xff, 0xff, 0xff, 0x7f}, make([]byte, 100)...))
	require.ErrorContains(t, err, "messages")
	// However long the body is that asks.
	_, _, err = decodeBody(nil, append(appendBody(nil, one, shape{messages: 1, numbers: maxFrameIDs + 11}), make([]byte, 1<<20)...))
	require.ErrorContains(t, err, "65547 numbers, at most 65546")
}

// What a frame may not hold together goes in frames of its own, and what it may
// not hold at all is dropped alone.
func TestFramesHoldWhatIsBelieved(t *testing.T) {
	voters := func(n int) Message {
		return Message{Group: 1, Raft: &pb.Message{Type: pb.MsgSnap.Enum(), Snapshot: &pb.Snapshot{
			Metadata: &pb.SnapshotMetadata{ConfState: &pb.ConfState{Voters: make([]uint64, n)}},
		}}}
	}
	entries := func(n int) Message {
		list := make([]*pb.Entry, n)
		for i := range list {
			list[i] = &pb.Entry{}
		}
		return Message{Group: 1, Raft: &pb.Message{Type: pb.MsgApp.Enum(), Entries: list}}
	}
	s := newStreet()
	a, _ := s.settle(t, 1, nil)
	_, in := s.settle(t, 2, nil)
	all := []Message{voters(40000), voters(40000), voters(maxFrameIDs), entries(maxFrameEntries), entries(5), numbered(1)[0]}
	a.Send(2, Data, sequence(all, []Message{voters(maxFrameIDs + 100), entries(maxFrameEntries + 1)}))
	soon(t, "all arrive", func() bool { return in.len() == len(all) })
	require.NoError(t, equal(all, in.got))
	require.Equal(t, uint64(2), a.Stats().Out[Data].Dropped)
	require.Zero(t, a.Stats().Reconnects)
}

func TestCodecRefusesUnknownFlags(t *testing.T) {
	whole := func(raft []byte, s shape) error {
		body := appendBody(nil, nil, shape{})
		body = append(body[:0], 1, 1, byte(s.entries), byte(s.numbers), 1, 1, 1, 0)
		_, _, err := decodeBody(nil, append(body, raft...))
		return err
	}
	require.NoError(t, whole([]byte{0, 0}, shape{}))
	for name, c := range map[string]struct {
		raft []byte
		s    shape
	}{
		"field":                   {[]byte{0, 0x80}, shape{}},
		"reject without presence": {[]byte{0, rejectTrue >> 8}, shape{}},
		"message type":            {[]byte{hasType, 0, byte(maxMessageType) + 1}, shape{}},
		"empty entries":           {[]byte{0, hasEntries >> 8, 0}, shape{}},
		"entry flag":              {[]byte{0, hasEntries >> 8, 1, 0x80}, shape{entries: 1}},
		"term of none":            {[]byte{0, hasEntries >> 8, 1, entryTermSame}, shape{entries: 1}},
		"both terms":              {[]byte{0, hasEntries >> 8, 1, entryTermMask}, shape{entries: 1}},
		"both indexes":            {[]byte{0, hasEntries >> 8, 1, entryIndexMask}, shape{entries: 1}},
		"snapshot flag":           {[]byte{0, hasSnapshot >> 8, 0x80}, shape{}},
		"index without metadata":  {[]byte{0, hasSnapshot >> 8, snapshotHasIndex, 1}, shape{numbers: 1}},
		"auto without conf":       {[]byte{0, hasSnapshot >> 8, snapshotHasMeta | snapshotHasAuto}, shape{}},
	} {
		require.ErrorIs(t, whole(c.raft, c.s), errFormat, name)
	}
}

func TestShapePanicsOnWhatMustNotLeave(t *testing.T) {
	require.Panics(t, func() { shapeOf(&Message{Group: 1}) })
	require.Panics(t, func() { shapeOf(&Message{Raft: &pb.Message{Responses: []*pb.Message{{}}}}) })
	bad := &Message{Raft: &pb.Message{Entries: []*pb.Entry{{Type: pb.EntryType(9).Enum()}}}}
	require.Panics(t, func() { appendMessage(nil, bad) })
}

// FuzzDecode feeds the decoder arbitrary bodies: it must refuse or give
// messages that encode and decode to the same again.
func FuzzDecode(f *testing.F) {
	r := newMaker(3)
	for range 20 {
		m := r.messages(1 + r.IntN(3))
		f.Add(appendBody(nil, m, sumOf(m)))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		m, _, err := decodeBody(nil, body)
		if err != nil {
			require.ErrorIs(t, err, errFormat)
			return
		}
		again, _, err := decodeBody(nil, appendBody(nil, m, sumOf(m)))
		require.NoError(t, err)
		require.NoError(t, equal(m, again))
	})
}
