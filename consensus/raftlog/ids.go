package raftlog

// GroupID names a Raft group.
type GroupID uint64

// ReplicaID names a replica within its group. It is never reused.
type ReplicaID uint64
