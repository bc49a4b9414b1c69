package raftlog

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is what a write to a closed Disk or Log gets.
	ErrClosed = errors.New("raftlog: closed")
	// ErrNoGroup is wrapped where a group was asked for that the owner does
	// not have.
	ErrNoGroup = errors.New("raftlog: no such group")
	// ErrOwned is wrapped where an owner is opened that is open already.
	ErrOwned = errors.New("raftlog: owner is open already")
)

// A CorruptionError reports that bytes are damaged or missing which were on
// stable storage. The log does not open; another replica has the data.
type CorruptionError struct {
	Segment uint32 // number of the segment
	Offset  int64  // where the damage begins, in bytes
	Detail  string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("raftlog: corruption in segment %d at offset %d: %s", e.Segment, e.Offset, e.Detail)
}

// A VersionError reports a segment of a format that this code does not know.
type VersionError struct {
	Segment      string // name of the file
	Version      uint32 // what it holds
	MostRecent   uint32 // what this code writes
	LeastVersion uint32 // the oldest that this code reads
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("raftlog: segment %s: format version %d, this program reads versions %d to %d",
		e.Segment, e.Version, e.LeastVersion, e.MostRecent)
}

// An ExistsError reports a Create that is refused because the group has a
// replica, or had one with an id that is not below the new one.
type ExistsError struct {
	Group     GroupID
	Replica   ReplicaID // asked for
	Existing  ReplicaID // present or destroyed
	Destroyed bool
}

func (e *ExistsError) Error() string {
	if e.Destroyed {
		return fmt.Sprintf("raftlog: group %d: create replica %d: replica %d was destroyed here, expected a higher id",
			e.Group, e.Replica, e.Existing)
	}
	return fmt.Sprintf("raftlog: group %d: create replica %d: replica %d exists", e.Group, e.Replica, e.Existing)
}
