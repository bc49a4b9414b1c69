package raftlog

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var seedRecords = []record{
	{kind: kindState, owner: 1, group: 7, flags: flagFresh, replica: 3, index: 10, term: 2, hard: hardState{2, 1, 10}, data: []byte("meta")},
	{kind: kindEntry, owner: 1, group: 7, index: 11, term: 2, typ: 1, data: []byte("data")},
	{kind: kindEntry, owner: 1, group: 7, index: 12, term: 3},
	{kind: kindRewrite, owner: 1, group: 7, index: 11, term: 2, typ: 1, data: []byte("data")},
	{kind: kindHard, owner: 1, group: 7, hard: hardState{1 << 40, 0, 12}},
	{kind: kindTruncate, owner: 1, group: 7, index: 11, term: 2},
	{kind: kindState, owner: 1, group: 7, flags: flagFresh | flagDestroyed, replica: 3},
	{kind: kindSkip},
	{kind: kindOwner, owner: 1, data: []byte("kept")},
}

// FuzzRecord decodes anything without harm, and what it takes it writes again
// as the same record.
func FuzzRecord(f *testing.F) {
	for _, r := range seedRecords {
		f.Add(r.appendBody(nil))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r, again record
		if r.decode(body) != nil || r.kind == kindSkip {
			return
		}
		b := r.appendBody(nil)
		if err := again.decode(b); err != nil {
			t.Fatalf("%+v does not decode: %v", r, err)
		}
		if !bytes.Equal(b, again.appendBody(nil)) {
			t.Fatalf("%+v came back as %+v", r, again)
		}
	})
}

// segmentOf makes the first segment of a log out of records, with checksums
// that are right.
func segmentOf(bodies [][]byte) []byte {
	b := make([]byte, segmentHeaderBytes)
	encodeSegmentHeader(b, 1, 1)
	at := len(b)
	b = append(b, make([]byte, frameHeaderBytes)...)
	for _, body := range bodies {
		p := position{1, uint32(len(b))}
		b = le.AppendUint32(b, uint32(len(body)))
		b = le.AppendUint32(b, sum(1, p, body))
		b = append(b, body...)
	}
	h := frameHeader{length: uint32(len(b) - at - frameHeaderBytes), records: uint32(len(bodies)), durable: position{1, segmentHeaderBytes}}
	h.encode(b[at:], 1, position{1, uint32(at)})
	return append(b, make([]byte, -len(b)&(frameAlign-1))...)
}

func openBytes(t *testing.T, segment []byte) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("log", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create("log/"+segmentName(1), category)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(segment); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDisk(fs, "log", Options{Inline: true, MaxSegmentBytes: 4 << 10})
	if err != nil {
		return
	}
	for id := range d.owners {
		l, err := d.Log(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range l.Groups() {
			if info.Destroyed {
				continue
			}
			g, err := l.Group(info.Group)
			if err != nil {
				t.Fatal(err)
			}
			first, _ := g.FirstIndex()
			last, _ := g.LastIndex()
			if list, err := g.Entries(first, last+1, 1<<40); err != nil || uint64(len(list)) != last+1-first {
				t.Fatalf("entries %d to %d: %d of them, %v", first, last, len(list), err)
			}
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzReplay opens a log of arbitrary records whose checksums are right. It
// opens or refuses, and what it opens can be read.
func FuzzReplay(f *testing.F) {
	var all []byte
	for _, r := range seedRecords {
		body := r.appendBody(nil)
		all = append(append(all, byte(len(body))), body...)
		f.Add(append([]byte{byte(len(body))}, body...))
		f.Add(bytes.Clone(all))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var bodies [][]byte
		for len(data) > 1 {
			n := min(max(int(data[0]), 1), len(data)-1)
			bodies, data = append(bodies, data[1:1+n]), data[1+n:]
		}
		openBytes(t, segmentOf(bodies))
	})
}

// FuzzSegment opens a segment in which anything may stand.
func FuzzSegment(f *testing.F) {
	var bodies [][]byte
	for _, r := range seedRecords {
		bodies = append(bodies, r.appendBody(nil))
	}
	f.Add(segmentOf(bodies), uint(0), byte(0))
	f.Add(segmentOf(bodies[:3]), uint(70), byte(4))
	f.Add(segmentOf(nil), uint(100), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint, flip byte) {
		if len(b) > 0 {
			b = bytes.Clone(b)
			b[at%uint(len(b))] ^= flip
		}
		openBytes(t, b)
	})
}
