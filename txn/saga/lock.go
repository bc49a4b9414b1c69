package saga

import (
	"context"
	"fmt"
	"slices"

	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// Lock has the saga hold a key from the commit of this step to its own end, or until the
// step is taken back. It is a row beside the key, and binds those who ask for it: other
// sagas with Lock, other transactions with Locked. If another saga holds the key, Lock
// returns a *LockedError; a step that returns it is tried again as by its Retry, so that
// two sagas which wait for each other should have a bound there.
func (c *Context) Lock(ctx context.Context, key string) error {
	if c.Tx == nil {
		return &InputError{ID: c.Saga, Text: fmt.Sprintf("step %q locks %q in a call, expected an action on rows", c.Step, key)}
	}
	if len(c.locks) == maxLocks || len(key) > mvcc.MaxKeyBytes/2 {
		return &InputError{ID: c.Saga, Text: fmt.Sprintf("step %q takes lock %d, on a key of %d bytes, expected at most %d and %d", c.Step, len(c.locks)+1, len(key), maxLocks, mvcc.MaxKeyBytes/2)}
	}
	held, err := holder(ctx, c.Tx, key)
	switch {
	case err != nil:
		return err
	case held != nil && held.Holder == c.Saga:
		return nil
	case held != nil:
		return held
	}
	if !slices.Contains(c.locks, key) {
		c.locks = append(c.locks, key)
	}
	b := codec.AppendText(codec.AppendText(nil, c.Saga.Home), c.Saga.Name)
	return c.Tx.Put(lockKey(key), codec.AppendText(b, c.Step))
}

// Locked returns a *LockedError if a saga holds a key. A transaction that commits
// afterwards, at a level above txn.Snapshot, commits while nobody does.
func Locked(ctx context.Context, tx *txn.Tx, key string) error {
	held, err := holder(ctx, tx, key)
	if err == nil && held != nil {
		err = held
	}
	return err
}

func holder(ctx context.Context, tx *txn.Tx, key string) (*LockedError, error) {
	b, there, err := tx.Get(ctx, lockKey(key))
	if err != nil || !there {
		return nil, err
	}
	r := codec.Read(b)
	e := &LockedError{Key: key, Holder: ID{Home: r.Text(maxHome), Name: r.Text(maxName)}, Step: r.Text(maxName)}
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("saga: lock of %q is %w", key, err)
	}
	return e, nil
}

// unlock gives up what a step has locked.
func unlock(tx *txn.Tx, r *record) error {
	for _, key := range r.locks {
		if err := tx.Delete(lockKey(key)); err != nil {
			return err
		}
	}
	r.locks = nil
	return nil
}
