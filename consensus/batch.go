package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"
)

// An entry's data is a batch:
//
//	version u8 | count u32 | count commands
//
// and a command
//
//	kind u8 | session uvarint, sequence uvarint (kindSession) | length uvarint | bytes
//
// in little endian.
const (
	batchVersion     = 1
	batchHeaderBytes = 5
)

// The kinds of command.
const (
	commandPlain  = iota // applied whenever it commits
	commandOnce          // carries session and sequence: applied at most once
	commandOpen          // opens a session: limit of sessions uvarint, of a result's bytes uvarint
	commandExpire        // ends a slice of the idle sessions, see expiry
	commandAlone         // stands alone in its entry and is applied by itself
)

// maxOrdinals bounds the commands of an entry: a session's id is made of the
// index of the entry that opened it and its place therein.
const maxOrdinals = 1024

// A Command is what a client proposes.
type Command struct {
	// Session and Sequence make retries safe: of the commands with the same
	// session and sequence at most one is applied, and all get its result.
	// Session 0: no such promise. Sequence numbers start at 1.
	Session, Sequence uint64
	// Data is handed to the state machine. It is copied before Propose
	// returns.
	Data []byte
	// Alone has the machine apply the command in a batch of its own, whose index
	// is that of the command's entry. It cannot carry a session.
	Alone bool
}

// A batch is the commands that become one entry. Clients fill it under the
// replica's lock until the worker takes it; then it belongs to the worker, and
// results and err belong to the clients once done is closed.
type batch struct {
	buf   []byte
	count int
	alone bool  // takes no further command
	bytes int64 // charged to the quotas
	done  chan struct{}

	// Set when Raft has given the batch its place.
	index, term uint64

	// Set before done is closed.
	results []Result
	errs    []error // nil if no command of the batch was refused
	err     error
}

func newBatch(buf []byte) *batch {
	buf = append(buf[:0], batchVersion, 0, 0, 0, 0)
	return &batch{buf: buf, done: make(chan struct{})}
}

// add appends a command and returns its place.
func (b *batch) add(kind byte, c *Command) int {
	b.buf = append(b.buf, kind)
	b.alone = kind == commandAlone
	if kind == commandOnce {
		b.buf = binary.AppendUvarint(b.buf, c.Session)
		b.buf = binary.AppendUvarint(b.buf, c.Sequence)
	}
	b.buf = binary.AppendUvarint(b.buf, uint64(len(c.Data)))
	b.buf = append(b.buf, c.Data...)
	b.count++
	return b.count - 1
}

// seal writes the count and returns the entry's data.
func (b *batch) seal() []byte {
	binary.LittleEndian.PutUint32(b.buf[1:], uint32(b.count))
	return b.buf
}

// finish tells every client that the batch ended with err (nil: results).
func (b *batch) finish(err error) {
	b.err = err
	close(b.done)
}

// ended says whether the batch has ended.
func (b *batch) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// result is the outcome of the command at place pos. Only after done.
func (b *batch) result(pos int) (Result, error) {
	if b.err != nil {
		return Result{}, b.err
	}
	if b.errs != nil && b.errs[pos] != nil {
		return Result{}, b.errs[pos]
	}
	return b.results[pos], nil
}

// A decodedCommand is a command of an entry; data aliases the entry.
type decodedCommand struct {
	kind              byte
	session, sequence uint64
	data              []byte
}

var errBadBatch = errors.New("malformed batch")

// decodeBatch appends the commands of an entry's data to dst.
func decodeBatch(dst []decodedCommand, data []byte) ([]decodedCommand, error) {
	if len(data) < batchHeaderBytes || data[0] != batchVersion {
		return dst, fmt.Errorf("%w: %d bytes, expected version %d", errBadBatch, len(data), batchVersion)
	}
	count := binary.LittleEndian.Uint32(data[1:])
	if count > maxOrdinals {
		return dst, fmt.Errorf("%w: %d commands, expected at most %d", errBadBatch, count, maxOrdinals)
	}
	d := decoder{buf: data[batchHeaderBytes:]}
	for range count {
		c := decodedCommand{kind: d.byte()}
		if c.kind == commandOnce {
			c.session, c.sequence = d.uvarint(), d.uvarint()
		}
		c.data = d.bytes()
		if d.bad || c.kind > commandAlone || c.kind == commandAlone && count > 1 {
			return dst, fmt.Errorf("%w: command %d of %d", errBadBatch, len(dst), count)
		}
		dst = append(dst, c)
	}
	if len(d.buf) != 0 {
		return dst, fmt.Errorf("%w: %d bytes behind the last command", errBadBatch, len(d.buf))
	}
	return dst, nil
}

// standsAlone says whether an entry is of a command that stands alone.
func standsAlone(e *pb.Entry) bool {
	data := e.GetData()
	return e.GetType() == pb.EntryNormal && len(data) > batchHeaderBytes && data[batchHeaderBytes] == commandAlone
}

// A decoder reads the Host's own encodings. After a short or malformed value
// bad is set and every further value is zero.
type decoder struct {
	buf []byte
	bad bool
}

func (d *decoder) byte() byte {
	if d.bad || len(d.buf) == 0 {
		d.bad = true
		return 0
	}
	b := d.buf[0]
	d.buf = d.buf[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.buf)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

// count reads the length of a list whose elements take at least one byte.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.buf)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if d.bad || n > uint64(len(d.buf)) {
		d.bad = true
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

// done reports an encoding that was cut short or that goes on.
func (d *decoder) done() bool { return !d.bad && len(d.buf) == 0 }
