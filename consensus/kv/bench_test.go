package kv_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
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

// BenchmarkApply asks what the machine costs a command, in batches of 64.
//
//	go test -run='^$' -bench=Apply ./consensus/kv
func BenchmarkApply(b *testing.B) {
	for _, keys := range []int{1_000, 100_000} {
		for _, size := range []int{128, 1024} {
			b.Run(fmt.Sprintf("keys=%d/size=%d", keys, size), func(b *testing.B) {
				a := &applier{m: open(b, kv.Options{}), commands: puts(keys, size)}
				for range keys + 64 {
					require.NoError(b, a.apply())
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := a.apply(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkGet asks what a read costs.
//
//	go test -run='^$' -bench=Get ./consensus/kv
func BenchmarkGet(b *testing.B) {
	const keys = 1000
	b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
		a := &applier{m: open(b, kv.Options{}), commands: puts(keys, 128)}
		for range keys + 64 {
			require.NoError(b, a.apply())
		}
		key := []byte("key00000500")
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := a.m.Get(key); !ok {
				b.Fatal("key is absent")
			}
		}
	})
}

// BenchmarkSnapshot asks how fast a state is written and staged.
//
//	go test -run='^$' -bench=Snapshot ./consensus/kv
func BenchmarkSnapshot(b *testing.B) {
	const keys, size = 100_000, 128
	a := &applier{m: open(b, kv.Options{}), commands: puts(keys, size)}
	for range keys + 64 {
		require.NoError(b, a.apply())
	}
	data := stream(b, a.m)
	b.Run(fmt.Sprintf("op=write/keys=%d/size=%d", keys, size), func(b *testing.B) {
		v, err := a.m.View()
		require.NoError(b, err)
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := v.WriteTo(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(fmt.Sprintf("op=stage/keys=%d/size=%d", keys, size), func(b *testing.B) {
		m := open(b, kv.Options{FS: vfs.NewMem(), Dir: "kv"})
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			staged, err := m.Stage(bytes.NewReader(data))
			if err != nil {
				b.Fatal(err)
			}
			if err := staged.Discard(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(fmt.Sprintf("op=install/keys=%d/size=%d", keys, size), func(b *testing.B) {
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
