package txn_test

import (
	"context"
	"fmt"
	"log"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// A cluster of three nodes in this process, and money that goes from one shard to another.
func Example() {
	ctx := context.Background()
	var parts [3]*txn.Participant
	local, err := cluster.NewLocal(ctx, len(parts), cluster.LocalOptions{Node: func(i int, o *cluster.Options) {
		p, err := txn.NewParticipant(txn.Options{})
		if err != nil {
			log.Fatal(err)
		}
		p.Join(o)
		parts[i-1] = p
	}})
	if err != nil {
		log.Fatal(err)
	}
	for i, p := range parts {
		p.Serve(local.Node(i + 1))
		defer p.Close()
	}
	defer local.Close()
	for _, span := range []meta.Span{{End: "m"}, {Start: "m"}} {
		if _, err := local.Node(1).CreateShard(ctx, cluster.ShardSpec{Span: span}); err != nil {
			log.Fatal(err)
		}
	}

	client, err := txn.NewClient(local.Node(2), parts[1], txn.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	transfer := func(from, to string, amount int64) error {
		return client.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
			if err := tx.AddBounded(from, -amount, 0, 1000); err != nil {
				return err
			}
			return tx.AddBounded(to, amount, 0, 1000)
		})
	}
	err = client.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Add("alice", 100) })
	fmt.Println("begin:", err)
	fmt.Println("70:", transfer("alice", "zoe", 70))
	fmt.Println("70 again:", transfer("alice", "zoe", 70) != nil)
	_ = client.Run(ctx, txn.TxOptions{Level: txn.Snapshot, Set: true}, func(tx *txn.Tx) error {
		for _, key := range []string{"alice", "zoe"} {
			b, _, err := tx.Get(ctx, key)
			if err != nil {
				return err
			}
			n, _ := mvcc.Counter(&mvcc.Version{TS: 1, Value: b})
			fmt.Println(key, n)
		}
		return nil
	})
	// Output:
	// begin: <nil>
	// 70: <nil>
	// 70 again: true
	// alice 30
	// zoe 70
}
