package isolation

import "fmt"

// A write says who wrote a value to a key.
type write struct {
	txn   int32
	final bool // it did not write the key again
}

// A place is a key of the history.
type place struct {
	name   string
	list   bool
	writes map[uint64]write
	order  []uint64         // of what is known, from the first on
	at     map[uint64]int32 // where in order
	first  map[int32]uint64 // of the values of each transaction, in a register
	// next are values that are known to follow a value at once, in a register without
	// an order.
	next map[uint64][]uint64

	// own is what the transaction has written that is looked at, if it is mine.
	mine int32
	own  []uint64
}

// of returns what a transaction has written to the key, as far as it was looked at.
func (p *place) of(txn int32) []uint64 {
	if p.mine != txn {
		p.mine, p.own = txn, nil
	}
	return p.own
}

// place finds a key, and refuses one that is used as both a list and a register.
func (a *analysis) place(o *Op) (*place, error) {
	list := o.Kind == Append || o.Kind == ReadList
	i, ok := a.keys[o.Key]
	if !ok {
		i = int32(len(a.places))
		a.keys[o.Key] = i
		a.places = append(a.places, &place{name: o.Key, list: list, writes: map[uint64]write{}, first: map[int32]uint64{}, mine: -1})
	}
	p := a.places[i]
	if p.list != list {
		return nil, fmt.Errorf("%w: key %s is used as a list and as a register", ErrMalformed, o.Key)
	}
	return p, nil
}
