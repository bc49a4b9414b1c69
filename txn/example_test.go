package txn_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn"
)

// A cluster of three nodes in this process, and money that goes from one shard to another.
func Example() {
	if err := transfer(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 70 of 100: <nil>
	// 70 of 30: out of range
	// alice has 30, zoe 70
}

func transfer(ctx context.Context) error {
	var parts []*txn.Participant
	defer func() {
		for _, p := range parts {
			p.Close()
		}
	}()
	for range 3 {
		p, err := txn.NewParticipant(txn.Options{})
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	local, err := cluster.NewLocal(ctx, len(parts), cluster.LocalOptions{
		Node: func(i int, o *cluster.Options) { parts[i-1].Join(o) },
	})
	if err != nil {
		return err
	}
	defer local.Close()
	for i, p := range parts {
		p.Serve(local.Node(i + 1))
	}
	for _, span := range []meta.Span{{End: "m"}, {Start: "m"}} {
		if _, err := local.Node(1).CreateShard(ctx, cluster.ShardSpec{Span: span}); err != nil {
			return err
		}
	}

	client, err := txn.NewClient(local.Node(2), parts[1], txn.ClientOptions{})
	if err != nil {
		return err
	}
	if err := client.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Add("alice", 100) }); err != nil {
		return err
	}
	give := func(amount int64) error {
		return client.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
			// Nobody waits for another one to add, unless what is left may not do.
			if err := tx.AddBounded("alice", -amount, 0, 1000); err != nil {
				return err
			}
			return tx.Add("zoe", amount)
		})
	}
	fmt.Println("70 of 100:", give(70))
	var aborted *txn.AbortedError
	if !errors.As(give(70), &aborted) {
		return errors.New("there was not so much")
	}
	fmt.Println("70 of 30:", aborted.Reason)
	return client.Run(ctx, txn.TxOptions{ReadOnly: true}, func(tx *txn.Tx) error {
		alice, err := tx.Count(ctx, "alice")
		if err != nil {
			return err
		}
		zoe, err := tx.Count(ctx, "zoe")
		fmt.Printf("alice has %d, zoe %d\n", alice, zoe)
		return err
	})
}
