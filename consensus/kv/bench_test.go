package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/harness"
)

// puts returns one put of size bytes for each of so many keys.
func puts(keys, size int) [][]byte {
	commands := make([][]byte, keys)
	for i := range commands {
		key := fmt.Appendf(nil, "key%08d", i)
		commands[i] = kv.EncodePut(nil, key, bytes.Repeat([]byte("v"), size-len(key)-2))
	}
	return commands
}

// applier feeds a machine batches of 64 commands.
type applier struct {
	m        *kv.Machine
	commands [][]byte
	at       int
	batch    consensus.Batch
	results  [64]consensus.Result
}

// apply applies the next command, as soon as 64 are there.
func (a *applier) apply() error {
	a.batch.Commands = append(a.batch.Commands, a.commands[a.at%len(a.commands)])
	a.at++
	if len(a.batch.Commands) < len(a.results) {
		return nil
	}
	a.batch.Index++
	a.batch.Term = 1
	err := a.m.Apply(&a.batch, a.results[:])
	a.batch.Commands = a.batch.Commands[:0]
	return err
}

// TestApplyAllocates keeps the one allocation of a put: the pair itself.
func TestApplyAllocates(t *testing.T) {
	a := &applier{m: open(t, kv.Options{}), commands: puts(128, 128)}
	run := func() {
		for range 128 {
			if err := a.apply(); err != nil {
				t.Fatal(err)
			}
		}
	}
	run()
	require.LessOrEqual(t, testing.AllocsPerRun(20, run), 128.0)
}

// BenchmarkApply asks what the machine costs a command, in batches of 64. More
// keys than the processor's caches hold show what memory adds.
//
//	go test -run='^$' -bench=Apply ./consensus/kv
func BenchmarkApply(b *testing.B) {
	keys := []int{1_000}
	if harness.Full() {
		keys = append(keys, 100_000)
	}
	for _, keys := range keys {
		for _, size := range harness.Axis("size", 128, 1024) {
			b.Run(harness.Name("keys", keys, "size", size), func(b *testing.B) {
				a := loaded(b, keys, size)
				harness.Micro(b, a.apply)
			})
		}
	}
}

// loaded returns an applier whose machine holds all keys.
func loaded(b *testing.B, keys, size int) *applier {
	harness.Begin(b)
	a := &applier{m: open(b, kv.Options{}), commands: puts(keys, size)}
	for range keys + len(a.results) {
		require.NoError(b, a.apply())
	}
	return a
}

// BenchmarkGet asks what a read costs.
//
//	go test -run='^$' -bench=Get ./consensus/kv
func BenchmarkGet(b *testing.B) {
	const keys = 1000
	b.Run(harness.Name("keys", keys), func(b *testing.B) {
		a := loaded(b, keys, 128)
		key := []byte("key00000500")
		harness.Micro(b, func() error {
			if _, ok := a.m.Get(key); !ok {
				return errors.New("key is absent")
			}
			return nil
		})
	})
}

// BenchmarkSnapshot asks how fast a state is written to the wire, and read from
// it, checked, kept on a disk in memory and installed.
//
//	go test -run='^$' -bench=Snapshot ./consensus/kv
func BenchmarkSnapshot(b *testing.B) {
	const keys, size = 100_000, 128
	b.Run(harness.Name("op", "write", "keys", keys, "size", size), func(b *testing.B) {
		v, err := loaded(b, keys, size).m.View()
		require.NoError(b, err)
		for b.Loop() {
			n, err := v.WriteTo(io.Discard)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(n)
		}
	})
	b.Run(harness.Name("op", "install", "keys", keys, "size", size), func(b *testing.B) {
		data := streamOf(b, loaded(b, keys, size).m)
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			m := open(b, kv.Options{FS: vfs.NewMem(), Dir: "kv"})
			staged, err := m.Stage(bytes.NewReader(data))
			if err != nil {
				b.Fatal(err)
			}
			if err := staged.Install(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
