package verify

import (
	"math"
	"strconv"

	"github.com/anishathalye/porcupine"
)

// A register is the state of one key.
type register struct {
	present bool
	value   string
}

func (r register) String() string {
	if !r.present {
		return "absent"
	}
	return strconv.Quote(r.value)
}

// model is one register for the checker. Inputs and outputs are both the Call:
// it holds the request and the answer.
var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, _ any) (bool, any) {
		c := input.(*Call)
		return c.step(state.(register))
	},
	DescribeOperation: func(input, _ any) string {
		c := input.(*Call)
		return c.request() + " -> " + c.outcome()
	},
	DescribeState: func(state any) string { return state.(register).String() },
}

// step reports whether the call could have been answered as it was if it met
// r, and what it leaves behind. A call of unknown outcome fits everywhere; that
// it may never have happened follows, because its interval never ends and the
// checker may put it behind everything else.
func (c *Call) step(r register) (bool, register) {
	known := c.ending == answered
	a := c.answer
	switch c.action {
	case get:
		return a.found == r.present && (!a.found || a.value == r.value), r
	case put:
		return !known || !a.checkFound || a.found == r.present, register{true, c.value}
	case remove:
		return !known || !a.checkFound || a.found == r.present, register{}
	}
	sum, ok := c.plus(r)
	if !ok {
		return !known || !a.done, r
	}
	return !known || a.done && a.sum == sum, register{true, strconv.FormatInt(sum, 10)}
}

// plus returns what add makes of r; ok is false if r holds no number.
func (c *Call) plus(r register) (sum int64, ok bool) {
	if !r.present {
		return c.delta, true
	}
	n, err := strconv.ParseInt(r.value, 10, 64)
	return n + c.delta, err == nil
}

// operations turns the calls of one key into what the checker wants.
func operations(calls []Call) []porcupine.Operation {
	ops := make([]porcupine.Operation, 0, len(calls))
	lost := 0 // the first row below those of the clients
	for i := range calls {
		lost = max(lost, calls[i].client+1)
	}
	for i := range calls {
		c := &calls[i]
		op := porcupine.Operation{ClientId: c.client, Input: c, Call: int64(c.called), Return: int64(c.returned)}
		if c.ending == unknown {
			op.Return = math.MaxInt64
			// Its client goes on meanwhile, so the picture shows it as a client
			// of its own, below all others.
			op.ClientId = lost
			lost++
		}
		ops = append(ops, op)
	}
	return ops
}
