// Package phantomdb is the distributed half of a database, written on etcd's
// Raft, together with the benchmark suite that keeps it honest.
//
// Each floor of the house does one real distributed job and measures it with
// benchmarks that benchstat reads:
//
//   - consensus: many Raft groups on one node; replication, election,
//     linearizable reads, reconfiguration, log repair;
//   - harness: one measured experiment, from its specification to the
//     benchmark line.
//
// ARCHITECTURE.md follows a proposal through the code.
package phantomdb
