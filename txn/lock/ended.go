package lock

import (
	"container/list"

	"github.com/phantomdb/phantomdb/txn/id"
)

// ended remembers owners that have lost their locks, and why. Of more than max the ones
// are forgotten that were asked for longest ago.
type ended struct {
	max  int
	of   map[id.Key]*list.Element
	used list.List // of end, the latest first
}

type end struct {
	owner id.Key
	err   error
}

func (e *ended) add(owner id.Key, err error) {
	if at := e.of[owner]; at != nil {
		return // the first reason stays
	}
	e.of[owner] = e.used.PushFront(end{owner, err})
	if e.used.Len() > e.max {
		e.forget(e.used.Back().Value.(end).owner)
	}
}

// why is the reason for which an owner has lost its locks, nil if it is not known to.
func (e *ended) why(owner id.Key) error {
	if len(e.of) == 0 {
		return nil
	}
	at := e.of[owner]
	if at == nil {
		return nil
	}
	e.used.MoveToFront(at)
	return at.Value.(end).err
}

func (e *ended) forget(owner id.Key) {
	if at := e.of[owner]; at != nil {
		e.used.Remove(at)
		delete(e.of, owner)
	}
}
