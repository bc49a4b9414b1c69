package saga

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A lease says that an orchestrator lives. It keeps others from taking its sagas while
// it does, which is a courtesy: that no two run a saga is due to the saga's token.
type lease struct {
	life  uint64 // one more each time that an orchestrator of this name is opened
	until hlc.Timestamp
}

// The options of transactions. What is read for a write must be so when that commits. What
// is read to tell somebody must be what others have been told is there, even if they
// were told by another node; and what people ask for is there when they hear so.
var (
	readWrite = txn.TxOptions{Set: true, Level: txn.Serializable}
	readOnly  = txn.TxOptions{Set: true, Level: txn.Strict, ReadOnly: true}
	byHand    = txn.TxOptions{Set: true, Level: txn.Strict}
)

func getLease(ctx context.Context, tx *txn.Tx, key string) (l lease, err error) {
	b, there, err := tx.Get(ctx, key)
	if err != nil || !there {
		return l, err
	}
	c := codec.Read(b)
	l.life, l.until = c.Uvarint(), hlc.Timestamp(c.Uint64())
	if err := c.End(); err != nil {
		return l, fmt.Errorf("saga: lease at %q is %w", key, err)
	}
	return l, nil
}

func (l *lease) put(tx *txn.Tx, key string) error {
	return tx.Put(key, binary.BigEndian.AppendUint64(binary.AppendUvarint(nil, l.life), uint64(l.until)))
}

// takeLease begins a new life.
func (o *Orchestrator) takeLease(ctx context.Context) error {
	return o.client.Run(ctx, readWrite, func(tx *txn.Tx) error {
		l, err := getLease(ctx, tx, o.lease)
		if err != nil {
			return err
		}
		o.life = l.life + 1
		return (&lease{o.life, tx.At().Add(o.o.Lease)}).put(tx, o.lease)
	})
}

// renew moves the end of the lease, to the beginning of time for 0. It returns ErrFenced
// if another life has begun.
func (o *Orchestrator) renew(ctx context.Context, d time.Duration) error {
	return o.client.Run(ctx, readWrite, func(tx *txn.Tx) error {
		l, err := getLease(ctx, tx, o.lease)
		switch {
		case err != nil:
			return err
		case l.life != o.life:
			return ErrFenced
		}
		l.until = 0
		if d > 0 {
			l.until = tx.At().Add(d)
		}
		return l.put(tx, o.lease)
	})
}

// dropLease lets others take what is not finished at once.
func (o *Orchestrator) dropLease(ctx context.Context) error {
	if o.why() == ErrFenced { //nolint:errorlint // set here, and never wrapped
		return nil
	}
	if err := o.renew(ctx, 0); err != nil {
		return fmt.Errorf("saga: close %q: lease: %w", o.o.Name, err)
	}
	return nil
}

// keep renews the lease for as long as the orchestrator lives.
func (o *Orchestrator) keep() {
	o.every(o.o.Lease/3, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, o.o.Lease)
		defer cancel()
		switch err := o.renew(ctx, o.o.Lease); {
		case errors.Is(err, ErrFenced):
			o.o.Logger.Warn("saga: another life of this orchestrator has begun", "orchestrator", o.o.Name)
			o.shut(ErrFenced)
		case err != nil:
			o.o.Logger.Warn("saga: lease", "orchestrator", o.o.Name, "error", err)
		}
	})
}
