package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo sends n bytes to a stream that returns them.
func echo(t *testing.T, a Transport, to NodeID, svc string, n int) {
	t.Helper()
	s, err := a.Stream(t.Context(), to, svc)
	require.NoError(t, err)
	big := make([]byte, n)
	for i := range big {
		big[i] = byte(i * 31 >> 3)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(big)
		sent <- errors.Join(err, s.(Duplex).CloseWrite())
	}()
	back, err := io.ReadAll(s)
	require.NoError(t, err)
	require.NoError(t, <-sent)
	require.Equal(t, big, back)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "twice is allowed")
	_, err = s.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	_, err = s.Write([]byte{1})
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

func TestStream(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		b.HandleStream("echo", func(_ context.Context, from NodeID, s io.ReadWriteCloser) { io.Copy(s, s) })
		echo(t, a, 2, "echo", 0)
		echo(t, a, 2, "echo", 1)
		echo(t, a, 2, "echo", 6<<20+1)
		soon(t, "counted alike", func() bool {
			return a.Stats().Out[Bulk] == b.Stats().In[Bulk] && b.Stats().Out[Bulk] == a.Stats().In[Bulk]
		})
		_, err := a.Stream(t.Context(), 2, "nothing")
		require.ErrorIs(t, err, ErrNoService)
		_, err = a.Stream(t.Context(), 9, "nothing")
		require.ErrorIs(t, err, ErrUnreachable)
	})
}

// One side ends its direction and goes on reading.
func TestStreamHalfClose(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		b.HandleStream("sum", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) {
			all, err := io.ReadAll(s)
			fmt.Fprintf(s, "%d bytes, %v", len(all), err)
		})
		s, err := a.Stream(t.Context(), 2, "sum")
		require.NoError(t, err)
		_, err = s.Write(make([]byte, 1000))
		require.NoError(t, err)
		require.NoError(t, s.(Duplex).CloseWrite())
		_, err = s.Write([]byte{1})
		require.ErrorIs(t, err, io.ErrClosedPipe)
		answer, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, "1000 bytes, <nil>", string(answer))
		require.NoError(t, s.Close())
	})
}

// A break must never look like an end: abort, a context that ends, a node
// that closes.
func TestStreamBreaks(t *testing.T) {
	for name, break_ := range map[string]func(s io.ReadWriteCloser, cancel func(), a, b Transport){
		"abort":   func(s io.ReadWriteCloser, _ func(), _, _ Transport) { s.(Duplex).Abort() },
		"context": func(_ io.ReadWriteCloser, cancel func(), _, _ Transport) { cancel() },
		"closed":  func(_ io.ReadWriteCloser, _ func(), a, _ Transport) { a.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, a, b Transport) {
				started, ended := make(chan struct{}), make(chan error, 1)
				b.HandleStream("read", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) {
					s.Read(make([]byte, 1))
					close(started)
					_, err := io.Copy(io.Discard, s)
					ended <- err
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s, err := a.Stream(ctx, 2, "read")
				require.NoError(t, err)
				_, err = s.Write(make([]byte, 1000))
				require.NoError(t, err)
				<-started
				break_(s, cancel, a, b)
				require.ErrorIs(t, <-ended, ErrBroken)
				soon(t, "the own side fails", func() bool { _, err := s.Write([]byte{1}); return err != nil })
				_, err = s.Read(make([]byte, 1))
				require.Error(t, err)
				require.NotErrorIs(t, err, io.EOF)
				s.Close()
			})
		})
	}
}

// A reader that closes early fails the writer instead of letting it go on.
func TestStreamReaderLeaves(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		b.HandleStream("leave", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) { s.Read(make([]byte, 1)) })
		s, err := a.Stream(t.Context(), 2, "leave")
		require.NoError(t, err)
		for err == nil {
			_, err = s.Write(make([]byte, 64<<10))
		}
		require.ErrorIs(t, err, ErrBroken)
		require.NoError(t, s.Close())
	})
}

// What was written before Close arrives, also if the closing side left
// something unread.
func TestStreamCloseDeliversWhatWasWritten(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		full := make(chan struct{})
		b.HandleStream("talk", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) {
			<-full
			s.Write(make([]byte, 900<<10))
		})
		s, err := a.Stream(t.Context(), 2, "talk")
		require.NoError(t, err)
		_, err = s.Write(make([]byte, 100<<10))
		require.NoError(t, err)
		close(full)
		time.Sleep(50 * time.Millisecond) // lets the other side close first
		all, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Len(t, all, 900<<10)
		require.NoError(t, s.Close())
	})
}

// Streams that nobody reads, full in both directions, hold up neither messages
// nor calls between the same nodes, nor another stream.
func TestFullStreamsHoldUpNothingElse(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		in := &inbox{}
		b.Receive(in)
		b.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
		b.HandleStream("echo", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) { io.Copy(s, s) })
		var moved, ended atomic.Int64
		stuff := func(s io.Writer) {
			defer ended.Add(1)
			for {
				n, err := s.Write(make([]byte, 64<<10))
				moved.Add(int64(n))
				if err != nil {
					return
				}
			}
		}
		b.HandleStream("stuff", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) { stuff(s) })
		const streams = 3
		var open []io.ReadWriteCloser
		var writers sync.WaitGroup
		for range streams {
			s, err := a.Stream(t.Context(), 2, "stuff")
			require.NoError(t, err)
			open = append(open, s)
			writers.Go(func() { stuff(s) })
		}
		// They are full when a tenth of a second changes nothing.
		for last := int64(-1); moved.Load() != last; time.Sleep(100 * time.Millisecond) {
			last = moved.Load()
		}
		for i := range 50 {
			a.Send(2, Control, numbered(1))
			a.Send(2, Data, appends(1, 10<<10))
			got, err := a.Call(t.Context(), 2, "echo", []byte{byte(i)})
			require.NoError(t, err)
			require.Equal(t, []byte{byte(i)}, got)
		}
		soon(t, "messages arrive", func() bool { return in.len() == 100 })
		echo(t, a, 2, "echo", 3<<20)
		require.Zero(t, ended.Load(), "the streams are still full")
		for _, s := range open {
			require.NoError(t, s.(Duplex).Abort())
		}
		writers.Wait()
		soon(t, "their ends are told", func() bool { return ended.Load() == 2*streams })
	})
}

// A reader that is slow stops the writer: what is between them is bounded.
func TestStreamBackPressure(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		goOn := make(chan struct{})
		read := make(chan int64, 1)
		b.HandleStream("slow", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) {
			<-goOn
			n, _ := io.Copy(io.Discard, s)
			read <- n
		})
		s, err := a.Stream(t.Context(), 2, "slow")
		require.NoError(t, err)
		const total = 64 << 20
		var written atomic.Int64
		go func() {
			for range total >> 16 {
				n, _ := s.Write(make([]byte, 1<<16))
				written.Add(int64(n))
			}
			s.(Duplex).CloseWrite()
		}()
		// It stands when a tenth of a second changes nothing.
		for last := int64(-1); written.Load() != last; time.Sleep(100 * time.Millisecond) {
			last = written.Load()
		}
		require.Less(t, written.Load(), int64(total/2))
		close(goOn)
		require.Equal(t, int64(total), <-read)
		require.NoError(t, s.Close())
	})
}
