package saga

import (
	"context"
	"fmt"
	"time"

	"github.com/phantomdb/phantomdb/txn"
)

// batch is how many finished sagas are forgotten in one transaction.
const batch = 32

// sweepUp forgets finished sagas, again and again.
func (o *Orchestrator) sweepUp() {
	o.every(max(o.o.Retention/4, time.Second), func(ctx context.Context) {
		if n, err := o.Sweep(ctx); err != nil {
			o.o.Logger.Info("saga: sweep", "orchestrator", o.o.Name, "sagas", n, "error", err)
		}
	})
}

// Sweep forgets the sagas at Homes that were finished longer ago than Retention, and
// returns how many those were. The orchestrator does so by itself four times in that
// time, at most once a second.
func (o *Orchestrator) Sweep(ctx context.Context) (int, error) {
	n := 0
	for _, home := range o.o.Homes {
		from, to := spanOf(home, kindHeader)
		for prefix := len(from); from != ""; {
			var old []ID
			var next string
			err := o.client.Run(ctx, readOnly, func(tx *txn.Tx) error {
				rows, err := tx.Scan(ctx, from, to, page)
				if err != nil {
					return err
				}
				old, next = nil, ""
				for _, row := range rows {
					h, err := parseHeader(row.Value)
					if err != nil {
						return err
					}
					if o.expired(tx, h) {
						old = append(old, ID{Home: home, Name: row.Key[prefix:]})
					}
				}
				if len(rows) == page {
					next = rows[page-1].Key + "\x00"
				}
				return nil
			})
			for len(old) > 0 && err == nil {
				part := old[:min(len(old), batch)]
				old = old[len(part):]
				err = o.forget(ctx, part)
				n += len(part)
			}
			if err != nil {
				return n, fmt.Errorf("saga: sweep %q: %w", home, err)
			}
			from = next
		}
	}
	return n, nil
}

func (o *Orchestrator) expired(tx *txn.Tx, h *header) bool {
	return h.ended != 0 && o.o.Retention > 0 && tx.At().Time().Sub(moment(h.ended)) > o.o.Retention
}

// forget removes all rows of sagas, if they are still what they were found to be.
func (o *Orchestrator) forget(ctx context.Context, ids []ID) error {
	return o.client.Run(ctx, readWrite, func(tx *txn.Tx) error {
		for _, id := range ids {
			b, there, err := tx.Get(ctx, headerKey(id))
			if err != nil {
				return err
			}
			if !there {
				continue
			}
			h, err := parseHeader(b)
			if err != nil {
				return err
			}
			if !o.expired(tx, h) {
				continue
			}
			for i := range h.steps {
				if err := tx.Delete(stepKey(id, h.at, i)); err != nil {
					return err
				}
			}
			if err := tx.Delete(headerKey(id)); err != nil {
				return err
			}
		}
		return nil
	})
}
