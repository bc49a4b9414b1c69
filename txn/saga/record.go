package saga

import (
	"encoding/binary"
	"fmt"

	"github.com/phantomdb/phantomdb/consensus/codec"
)

// The limits of what is kept of a saga, in bytes but for locks.
const (
	maxInput  = 1 << 20
	maxOutput = 16 << 10 // so that the outputs of all steps fit into a row
	maxNote   = 1 << 10
	maxLocks  = 64 // of a step
)

const recordVersion = 1

// A State is how far a saga is.
type State byte

// The states. Done and Compensated are the last ones.
const (
	Running      State = 1 + iota
	Compensating       // what was done is taken back
	Done
	Compensated
)

// Finished reports whether nothing happens any more.
func (s State) Finished() bool { return s == Done || s == Compensated }

func (s State) String() string {
	if s < Running || s > Compensated {
		return fmt.Sprintf("state %d", byte(s))
	}
	return [...]string{"running", "compensating", "done", "compensated"}[s-Running]
}

// A StepState is how far a step is, or what takes it back.
type StepState byte

// The states of a step.
const (
	Pending  StepState = iota
	Called             // it was about to be called, or it is
	Parked             // it was called, and nobody knows what came of it
	Stuck              // it failed, has to be done, and waits for somebody to say Retry
	Finished           // it is done
	Failed             // it is not going to be done
)

func (s StepState) String() string {
	if s > Failed {
		return fmt.Sprintf("step state %d", byte(s))
	}
	return [...]string{"pending", "called", "parked", "stuck", "finished", "failed"}[s]
}

// A record is what is known of a step. Of two, that with the higher revision is true.
type record struct {
	rev      uint64
	undo     bool // it is about Undo, and Do is finished
	state    StepState
	attempts int
	since    int64  // of the state, microseconds since 1970
	note     string // the last error
	output   []byte
	locks    []string // keys
}

func (r *record) append(b []byte) []byte {
	b = binary.AppendUvarint(b, r.rev)
	b = append(codec.AppendBool(b, r.undo), byte(r.state))
	b = binary.AppendUvarint(b, uint64(r.attempts))
	b = binary.AppendVarint(b, r.since)
	b = codec.AppendText(b, r.note)
	b = codec.AppendBytes(b, r.output)
	b = binary.AppendUvarint(b, uint64(len(r.locks)))
	for _, key := range r.locks {
		b = codec.AppendText(b, key)
	}
	return b
}

func cutRecord(c *codec.Reader) (r record) {
	r = record{rev: c.Uvarint(), undo: c.Bool(), state: StepState(c.Byte()), attempts: int(c.Uvarint()), since: c.Varint()}
	r.note, r.output = c.Text(maxNote), c.Bytes(maxOutput)
	for range c.Count(maxLocks) {
		r.locks = append(r.locks, c.Text(1<<16))
	}
	return r
}

func parseRecord(b []byte) (record, error) {
	c := codec.Read(b)
	r := cutRecord(&c)
	return r, c.End()
}

// A header is what a saga is. It is written when the saga begins, when it turns back,
// when it ends, and when it changes hands. What its steps were then is in it; rows of
// steps tell what they were later.
type header struct {
	token uint64 // one more with each that takes over
	state State
	// owner is the key of the lease of the orchestrator that runs it, and life which of
	// its lives that is.
	owner string
	life  uint64

	name    string // of the definition
	version uint32
	shape   uint64

	began, ended int64 // microseconds since 1970, 0: it has not ended
	cause        string
	failed       string // the step that turned it back
	input        []byte
	at           []string // where the rows of steps lie, nil: all at home
	steps        []record
}

// encode has what every transaction looks at in front.
func (h *header) encode() []byte {
	b := binary.AppendUvarint(append(make([]byte, 0, 128+len(h.input)), recordVersion), h.token)
	b = codec.AppendText(append(b, byte(h.state)), h.owner)
	b = binary.AppendUvarint(b, h.life)
	b = codec.AppendText(b, h.name)
	b = binary.AppendUvarint(b, uint64(h.version))
	b = binary.BigEndian.AppendUint64(b, h.shape)
	b = binary.AppendVarint(binary.AppendVarint(b, h.began), h.ended)
	b = codec.AppendText(codec.AppendText(b, h.cause), h.failed)
	b = codec.AppendBytes(b, h.input)
	b = binary.AppendUvarint(b, uint64(len(h.at)))
	for _, at := range h.at {
		b = codec.AppendText(b, at)
	}
	b = binary.AppendUvarint(b, uint64(len(h.steps)))
	for i := range h.steps {
		b = h.steps[i].append(b)
	}
	return b
}

// cutTurn reads the beginning of a header.
func cutTurn(c *codec.Reader) (token uint64, state State) {
	if c.Byte() != recordVersion {
		c.Fail()
	}
	return c.Uvarint(), State(c.Byte())
}

func parseHeader(b []byte) (*header, error) {
	c := codec.Read(b)
	h := &header{}
	h.token, h.state = cutTurn(&c)
	h.owner, h.life, h.name = c.Text(1<<16), c.Uvarint(), c.Text(maxName)
	h.version, h.shape = uint32(c.Uvarint()), c.Uint64()
	h.began, h.ended = c.Varint(), c.Varint()
	h.cause, h.failed = c.Text(maxNote), c.Text(maxName)
	h.input = c.Bytes(maxInput)
	for range c.Count(maxSteps) {
		h.at = append(h.at, c.Text(maxHome))
	}
	for range c.Count(maxSteps) {
		h.steps = append(h.steps, cutRecord(&c))
	}
	if err := c.End(); err != nil {
		return nil, fmt.Errorf("saga: header is %w", err)
	}
	return h, nil
}

// clone returns a copy whose steps can be changed.
func (h *header) clone() *header {
	c := *h
	c.steps = append([]record(nil), h.steps...)
	return &c
}

// brief shortens a text to what is kept of it.
func brief(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	return text[:min(len(text), maxNote)]
}
