// Package consensus runs one node's replicas of many Raft groups.
package consensus
