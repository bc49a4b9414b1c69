// Package txn runs transactions over the shards of a cluster.
package txn
