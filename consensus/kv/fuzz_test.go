package kv

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/stream"
)

// FuzzCommand applies any bytes as a command. The machine answers what
// ParseOutcome reads, all replicas the same, and a command that does not parse
// changes nothing.
func FuzzCommand(f *testing.F) {
	key := []byte("key")
	for _, command := range [][]byte{
		EncodePut(nil, key, []byte("value")), EncodeDelete(nil, key), EncodeAdd(nil, key, -1),
		EncodeCompareAndSwap(nil, key, nil, key), EncodeCompareAndSwap(nil, key, key, nil),
		EncodeNop(nil, key), {1, 0x83, 0, 'k', 'e', 'y'},
	} {
		f.Add(command)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var one, two state
		for _, s := range []*state{&one, &two} {
			s.put(key, []byte("12345678"))
		}
		before := contents(t, &one)
		answer := one.apply(data)
		if got := two.apply(bytes.Clone(data)); !bytes.Equal(answer, got) {
			t.Fatalf("replicas answer %x and %x", answer, got)
		}
		after := contents(t, &one)
		if !bytes.Equal(after, contents(t, &two)) {
			t.Fatal("replicas differ")
		}
		outcome, err := ParseOutcome(answer)
		if _, ok := parseCommand(data); ok != (err == nil) {
			t.Fatalf("answer %x to a command that parses: %t", answer, ok)
		}
		if !outcome.Done && !bytes.Equal(before, after) {
			t.Fatal("a command that was not done changed the state")
		}
		// What a state holds, a checkpoint can hold.
		if _, err := readState(bytes.NewReader(after), true); err != nil {
			t.Fatal(err)
		}
	})
}

func contents(t *testing.T, s *state) []byte {
	var buf bytes.Buffer
	if _, err := s.writeTo(context.Background(), &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// seedState is a state with a little of everything.
func seedState() *state {
	s := &state{index: 7, term: 3}
	s.setRows([]consensus.Row{{Key: []byte("row"), Value: []byte("1")}})
	for _, key := range []string{"", "a", "b"} {
		s.put([]byte(key), []byte(key+"value"))
	}
	return s
}

// FuzzStream reads any bytes as a stream.
func FuzzStream(f *testing.F) {
	var buf bytes.Buffer
	if _, err := seedState().writeTo(context.Background(), &buf); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) { requireSameReads(t, data) })
}

// FuzzPayload reads any bytes as what the chunks of a stream carry, behind
// checksums that are right: the part that FuzzStream cannot guess its way to.
func FuzzPayload(f *testing.F) {
	var seed bytes.Buffer
	if _, err := seedState().writeTo(context.Background(), &seed); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes()[len(magic)+stream.HeaderBytes:]) // it is one chunk
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var buf bytes.Buffer
		w := stream.NewWriter(&buf, magic)
		w.Bytes(payload)
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		requireSameReads(t, buf.Bytes())
	})
}

// requireSameReads reads a stream as Stage does and as Open does. They agree,
// and what they accept is written again with the same contents.
func requireSameReads(t *testing.T, data []byte) {
	checked, checkErr := readState(bytes.NewReader(data), false)
	kept, err := readState(bytes.NewReader(data), true)
	if (checkErr == nil) != (err == nil) {
		t.Fatalf("checked: %v, kept: %v", checkErr, err)
	}
	if err != nil {
		return
	}
	if kept.bytes != checked.bytes || kept.index != checked.index || kept.term != checked.term {
		t.Fatalf("checked %+v, kept %+v", checked, kept)
	}
	again, err := readState(bytes.NewReader(contents(t, &kept)), true)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(contents(t, &again), contents(t, &kept)) || again.bytes != kept.bytes {
		t.Fatal("a state that was read and written differs")
	}
	if a, b := rowsOf(&checked), rowsOf(&kept); !slices.EqualFunc(a, b, func(a, b consensus.Row) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
	}) {
		t.Fatalf("checked rows %q, kept rows %q", a, b)
	}
}

func rowsOf(s *state) []consensus.Row { return s.position().Rows }
