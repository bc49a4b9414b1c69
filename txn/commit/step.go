package commit

import (
	"fmt"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// An InputKind says what a machine is told.
type InputKind uint8

// The kinds of input.
const (
	// Begin comes first, and once.
	Begin InputKind = iota
	// Got: Reply came, of Part if the machine is a Coordinator.
	Got
	// Unknown: what was sent last to Part may have arrived or not. It is sent again.
	Unknown
	// Retry: everything that has not been answered is sent again.
	Retry
	// Refreshed answers a Refresh: nothing that was read has changed, if OK.
	Refreshed
	// GiveUp: the transaction is to be aborted for Reason, if it still can be.
	GiveUp
)

// An Input is what a driver tells a machine.
type Input struct {
	Kind   InputKind
	Part   int
	Reply  Reply
	OK     bool
	Reason Reason
}

func (in Input) String() string {
	switch in.Kind {
	case Begin:
		return "begin"
	case Got:
		return fmt.Sprintf("got %d: %v", in.Part, in.Reply)
	case Unknown:
		return fmt.Sprintf("unknown %d", in.Part)
	case Retry:
		return "retry"
	case Refreshed:
		return fmt.Sprintf("refreshed %t", in.OK)
	case GiveUp:
		return fmt.Sprintf("give up (%v)", in.Reason)
	}
	return fmt.Sprintf("input %d", uint8(in.Kind))
}

// An OutputKind says what a driver is to do.
type OutputKind uint8

// The kinds of output.
const (
	// Send Request, of a Coordinator to where the keys of Part live, and of a Recovery
	// to where the keys in it live: the driver divides it among shards. What is about
	// the record goes to the anchor.
	Send OutputKind = iota
	// Refresh what was read to TS, and tell Refreshed.
	Refresh
	// Ack: Outcome is how it ended, for the client or whoever wanted the recovery. It
	// comes once, and not from a Recovery that found it pending and left it so.
	Ack
	// Finished: nothing is left to do. It comes last.
	Finished
)

// An Output is what a machine wants.
type Output struct {
	Kind    OutputKind
	Part    int
	Request Request
	TS      hlc.Timestamp
	Outcome Outcome
}

func (o Output) String() string {
	switch o.Kind {
	case Send:
		return fmt.Sprintf("send %d: %v", o.Part, o.Request)
	case Refresh:
		return fmt.Sprintf("refresh ts=%v", o.TS)
	case Ack:
		return fmt.Sprintf("ack %v", o.Outcome)
	case Finished:
		return "finished"
	}
	return fmt.Sprintf("output %d", uint8(o.Kind))
}
