package consensus

import (
	"context"
	"io"
)

// A StateMachine is what a group replicates: commands go in, in the order of
// the log, and every replica that applied the same prefix holds the same
// state. The Host drives one machine per replica.
//
// # Durability
//
// A machine stores, atomically with every batch, the batch's index and term
// and the Host's rows, and gives them back at Open. It may lose a suffix of
// what it applied in a crash, never a part of a batch and never a batch below
// one it kept: the Raft log replays the rest. Durable tells how far a crash
// cannot reach, Flush raises that bar, and the Host truncates the log only
// below it.
//
// # Concurrency
//
// Open, Apply, View, Install (of a Staged), Destroy and Close are never called
// at the same time as one another. Durable may be called at any time, Flush and
// Stage while Apply runs. A machine that serves reads to callers of its own
// must guard those itself.
type StateMachine interface {
	// Open recovers the machine and returns what it holds. A machine that
	// never applied anything returns the zero State.
	Open() (State, error)
	// Apply applies b and fills results, which has one element per command.
	// The byte slices in b are only valid during the call. An error stops the
	// replica for good, and no other: Apply is not called again before the
	// host has been started anew and Open told where to go on. The same goes for
	// an error of Flush and of Install.
	Apply(b *Batch, results []Result) error
	// Durable returns the highest index that survives a loss of power.
	Durable() uint64
	// Flush makes the machine durable at least up to upTo, which is an
	// applied index.
	Flush(ctx context.Context, upTo uint64) error
	// View freezes the present state. Later batches do not change it. It is
	// called on a worker, which serves other groups too: it must be quick and
	// not wait for a disk. So must Durable.
	View() (View, error)
	// Stage reads what View.WriteTo wrote, on this or another node, beside
	// the present state and without changing it. It verifies what it reads:
	// a stream that ends early or is damaged is an error and leaves nothing.
	Stage(r io.Reader) (Staged, error)
	// Destroy closes the machine and removes everything it stored.
	Destroy() error
	// Close releases the machine; what was applied since the last Flush may
	// be lost.
	Close() error
}

// A Refuser is a StateMachine that refuses commands which come too late for what it has
// become. What it refuses to a session is not kept, so that the same sequence may be
// tried again with a command that fits. It must change what it refuses with commands
// that stand alone only (Command.Alone): how entries are put together in batches is not
// the same on all replicas.
type Refuser interface {
	// Refuses returns the answer to a command that Apply would refuse, and false for
	// others. It is called before the Apply of the batch that the command is for, by
	// the same goroutine.
	Refuses(command []byte) (answer []byte, ok bool)
}

// State is the position of a machine and the rows that the Host keeps in it.
type State struct {
	Index, Term uint64
	Rows        []Row
}

// A Row is a small key and value that the Host asks a machine to keep beside
// its own data: the configuration of the group and the results of recent
// commands. The machine does not look inside. A nil Value deletes the row.
type Row struct {
	Key, Value []byte
}

// A Batch is what a machine applies at once, atomically.
type Batch struct {
	// Index and Term are those of the last entry of the batch. An entry
	// without commands still moves them.
	Index, Term uint64
	// Commands are in the order of the log.
	Commands [][]byte
	// Alone says that the only command was proposed to stand alone: every replica
	// applies it so.
	Alone bool
	// Rows replace rows of the same key.
	Rows []Row
	// ResultRows, if set, is called once, when all results are filled in, and
	// returns further rows of the same batch.
	ResultRows func(results []Result) []Row
}

// A Result is what a machine answers to a command. The Host keeps Data of
// commands that carry a session, up to Options.MaxSessionResultBytes.
type Result struct {
	Data []byte
}

// A View is a frozen state of a machine. It may be used from any goroutine,
// while the machine goes on, and must be closed.
type View interface {
	// Position returns the index and term of the view, and Row the value of
	// one of the Host's rows in it, nil if there is none. The Host calls both
	// on a worker, so neither may take longer for more rows.
	Position() (index, term uint64)
	Row(key []byte) []byte
	// State returns the position and all of the Host's rows in the view. It
	// takes time and memory in proportion to them; the Host never calls it on
	// a worker.
	State() State
	// WriteTo writes the whole view, position and rows included, with a
	// checksum, in a form that Stage reads.
	WriteTo(w io.Writer) (int64, error)
	Close() error
}

// Staged is a received snapshot that waits for Raft's word.
type Staged interface {
	// State returns the position and rows that the stream carried. The Host
	// calls it once, on the goroutine that staged.
	State() State
	// Install replaces the machine's contents with the staged ones,
	// atomically; they are durable when it returns.
	Install(ctx context.Context) error
	// Discard forgets the staged contents. After Install it does nothing.
	Discard() error
}
