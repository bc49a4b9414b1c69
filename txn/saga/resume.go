package saga

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn"
)

// page is how many rows are looked at in one transaction, and takers how many sagas are
// taken over at once.
const (
	page   = 256
	takers = 64
)

// Resume takes over the unfinished sagas at Homes that nobody runs, and returns how
// many those were. It does not wait until they are finished, but until there is room
// for them. A saga that could not be taken over, such as one of an unknown definition,
// is in the error; the others are taken over all the same.
func (o *Orchestrator) Resume(ctx context.Context) (int, error) {
	var taken atomic.Int64
	var mu sync.Mutex
	var errs []error
	var work sync.WaitGroup
	room := make(chan struct{}, takers)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	for _, home := range o.o.Homes {
		err := o.orphans(ctx, home, func(id ID) {
			room <- struct{}{}
			work.Go(func() {
				defer func() { <-room }()
				switch ok, err := o.resume(ctx, id, false); {
				case err != nil:
					fail(fmt.Errorf("saga: resume %v: %w", id, err))
				case ok:
					taken.Add(1)
				}
			})
		})
		if err != nil {
			fail(err)
		}
	}
	work.Wait()
	return int(taken.Load()), errors.Join(errs...)
}

// TakeOver has this orchestrator run a saga, even if another one does. That one finds
// out at its next transaction, which does not commit.
func (o *Orchestrator) TakeOver(ctx context.Context, id ID) error {
	_, err := o.load(ctx, id)
	for pause := time.Millisecond; err == nil; pause *= 2 {
		_, err = o.resume(ctx, id, true)
		if !errors.Is(err, ErrNotFound) || ctx.Err() != nil {
			break
		}
		// It was begun at a timestamp that the next transaction need not have yet.
		time.Sleep(pause)
		_, err = o.load(ctx, id)
	}
	if err != nil {
		err = fmt.Errorf("saga: take over %v: %w", id, err)
	}
	return err
}

// resume takes a saga over. It returns false if there is nothing to do for it.
func (o *Orchestrator) resume(ctx context.Context, id ID, force bool) (bool, error) {
	r, mine, err := o.admit(ctx, id, true)
	if err != nil || !mine {
		return false, err
	}
	if err := r.take(ctx, force); err != nil {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
		r.leave()
		if errors.Is(err, errAlive) || errors.Is(err, ErrNotFound) && !force {
			err = nil
		}
		return false, err
	}
	go r.loop()
	return true, nil
}

// orphans calls fn for the unfinished sagas of a home whose orchestrators do not live.
func (o *Orchestrator) orphans(ctx context.Context, home string, fn func(ID)) error {
	from, to := spanOf(home, kindOpen)
	for prefix := len(from); from != ""; {
		var found []ID
		var next string
		err := o.client.Run(ctx, readOnly, func(tx *txn.Tx) error {
			rows, err := tx.Scan(ctx, from, to, page)
			if err != nil {
				return err
			}
			found, next = nil, ""
			lives := map[string]lease{}
			for _, row := range rows {
				c := codec.Read(row.Value)
				owner, life := c.Text(1<<16), c.Uvarint()
				if err := c.End(); err != nil {
					return fmt.Errorf("saga: row %q is %w", row.Key, err)
				}
				l, known := lives[owner]
				if !known {
					if l, err = getLease(ctx, tx, owner); err != nil {
						return err
					}
					lives[owner] = l
				}
				mine := owner == o.lease && life == o.life // and not here if it came to nothing to take it
				if mine || l.life != life || l.until <= tx.At() {
					found = append(found, ID{Home: home, Name: row.Key[prefix:]})
				}
			}
			if len(rows) == page {
				next = rows[page-1].Key + "\x00"
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("saga: unfinished ones of %q: %w", home, err)
		}
		for _, id := range found {
			fn(id)
		}
		from = next
	}
	return nil
}

// look looks for sagas that nobody runs, again and again.
func (o *Orchestrator) look() {
	o.every(o.o.Scan, func(ctx context.Context) {
		if n, err := o.Resume(ctx); n > 0 || err != nil {
			o.o.Logger.Info("saga: resumed", "orchestrator", o.o.Name, "sagas", n, "error", err)
		}
	})
}
