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

// both runs a test of what every Transport promises on perfect links, on slow
// ones and on sockets. The receivers of the two nodes are not set.
func both(t *testing.T, f func(t *testing.T, a, b Transport)) {
	for name, o := range map[string]NetworkOptions{
		"sim":     {},
		"copied":  {Marshal: true},
		"delayed": {Default: Link{Delay: 200 * time.Microsecond, Jitter: 100 * time.Microsecond, BytesPerSecond: 1 << 30}},
	} {
		t.Run(name, func(t *testing.T) {
			n := NewNetwork(o)
			f(t, n.Node(1), n.Node(2))
			require.NoError(t, n.Close())
		})
	}
	t.Run("tcp", func(t *testing.T) {
		s := newStreet()
		f(t, s.open(t, 1, nil), s.open(t, 2, nil))
	})
}

func TestSelf(t *testing.T) {
	both(t, func(t *testing.T, a, _ Transport) {
		in := &inbox{}
		a.Receive(in)
		a.Send(1, Data, numbered(2))
		require.Equal(t, []uint64{0, 1}, in.indexes(), "at once")
		a.Handle("id", func(_ context.Context, from NodeID, req []byte) ([]byte, error) { return append(req, byte(from)), nil })
		got, err := a.Call(t.Context(), 1, "id", []byte{7})
		require.NoError(t, err)
		require.Equal(t, []byte{7, 1}, got)
		_, err = a.Call(t.Context(), 1, "none", nil)
		require.ErrorIs(t, err, ErrNoService)
		a.HandleStream("id", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) { io.Copy(s, s) })
		echo(t, a, 1, "id", 3<<20)
		_, err = a.Stream(t.Context(), 1, "none")
		require.ErrorIs(t, err, ErrNoService)
		out, into := a.Stats().Total()
		require.Zero(t, out)
		require.Zero(t, into)
		require.NoError(t, a.Close())
		a.Send(1, Data, numbered(1))
		require.Equal(t, 2, in.len())
		_, err = a.Call(t.Context(), 1, "id", nil)
		require.ErrorIs(t, err, ErrClosed)
		_, err = a.Stream(t.Context(), 1, "id")
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestRegistration(t *testing.T) {
	both(t, func(t *testing.T, a, _ Transport) {
		h := func(context.Context, NodeID, []byte) ([]byte, error) { return nil, nil }
		s := func(context.Context, NodeID, io.ReadWriteCloser) {}
		a.Handle("x", h)
		a.HandleStream("x", s)
		require.Panics(t, func() { a.Handle("x", h) })
		require.Panics(t, func() { a.HandleStream("x", s) })
		require.Panics(t, func() { a.Handle("", h) })
		require.Panics(t, func() { a.Handle(string(make([]byte, 256)), h) })
		a.Receive(&inbox{})
		require.Panics(t, func() { a.Receive(&inbox{}) })
	})
}

// A stamp travels with messages, requests, answers and the opening of streams.
func TestStamp(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		var clock [3]atomic.Uint64
		var seen [3]sync.Map
		for i, n := range []Transport{nil, a, b} {
			if n != nil {
				n.Stamp(func() uint64 { return clock[i].Load() }, func(s uint64) { seen[i].Store(s, true) })
			}
		}
		saw := func(node int, stamp uint64) bool { _, ok := seen[node].Load(stamp); return ok }
		in := &inbox{}
		b.Receive(in)
		clock[1].Store(1 << 60)
		a.Send(2, Control, numbered(1))
		soon(t, "messages", func() bool { return in.len() == 1 && saw(2, 1<<60) })

		clock[1].Store(12)
		clock[2].Store(21)
		b.Handle("h", func(context.Context, NodeID, []byte) ([]byte, error) {
			require.True(t, saw(2, 12), "observed before the handler runs")
			return nil, nil
		})
		_, err := a.Call(t.Context(), 2, "h", nil)
		require.NoError(t, err)
		require.True(t, saw(1, 21), "observed before the answer is there")

		clock[1].Store(13)
		clock[2].Store(31)
		b.HandleStream("h", func(context.Context, NodeID, io.ReadWriteCloser) {})
		s, err := a.Stream(t.Context(), 2, "h")
		require.NoError(t, err)
		require.True(t, saw(2, 13) && saw(1, 31))
		require.NoError(t, s.Close())
	})
}

func TestMessagesWithoutReceiverAreDropped(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		a.Send(2, Data, numbered(3))
		soon(t, "counted", func() bool { return b.Stats().In[Data].Dropped == 3 })
	})
}

// The same messages are the same number of bytes on every wire.
func TestBytesAreThoseOfTheWire(t *testing.T) {
	m := newMaker(9).messages(50)
	var bytes []uint64
	both(t, func(t *testing.T, a, b Transport) {
		b.Receive(&inbox{})
		a.Send(2, Data, m)
		soon(t, "counted", func() bool { return a.Stats().Out[Data].Messages == 50 && b.Stats().In[Data].Messages == 50 })
		require.Equal(t, a.Stats().Out[Data], b.Stats().In[Data])
		bytes = append(bytes, a.Stats().Out[Data].Bytes)
	})
	require.Len(t, bytes, 4)
	for _, b := range bytes {
		require.Equal(t, bytes[0], b)
	}
}

// What one call sends may be more than one frame holds: a node that stood still
// answers at once to all that it was asked meanwhile.
func TestMoreMessagesThanAFrameHolds(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		in := &inbox{}
		b.Receive(in)
		all := numbered(maxFrameMessages + 1)
		a.Send(2, Control, all)
		soon(t, "all arrive", func() bool { return in.len() == len(all) })
		for i, index := range in.indexes() {
			if index != uint64(i) {
				t.Fatalf("message %d came as %d", index, i)
			}
		}
	})
}

func TestCall(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		b.Handle("echo", func(_ context.Context, from NodeID, req []byte) ([]byte, error) {
			if from != 1 {
				return nil, fmt.Errorf("from %d", from)
			}
			return req, nil
		})
		b.Handle("refuse", func(context.Context, NodeID, []byte) ([]byte, error) { return nil, errors.New("not today") })
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() {
				for j := range 30 {
					req := fmt.Sprintf("%d-%d", i, j)
					got, err := a.Call(t.Context(), 2, "echo", []byte(req))
					if err != nil || string(got) != req {
						t.Errorf("%q: %q, %v", req, got, err)
					}
				}
			})
		}
		group.Wait()
		_, err := a.Call(t.Context(), 2, "refuse", nil)
		var remote *RemoteError
		require.ErrorAs(t, err, &remote)
		require.Equal(t, RemoteError{Node: 2, Service: "refuse", Message: "not today"}, *remote)
		_, err = a.Call(t.Context(), 2, "nothing", nil)
		require.ErrorIs(t, err, ErrNoService)
		_, err = a.Call(t.Context(), 9, "nothing", nil)
		require.ErrorIs(t, err, ErrUnreachable)
		big := make([]byte, 3<<20)
		big[len(big)-1] = 9
		got, err := a.Call(t.Context(), 2, "echo", big)
		require.NoError(t, err)
		require.Equal(t, big, got)
		require.Equal(t, a.Stats().Out[Calls], b.Stats().In[Calls])
		require.Equal(t, b.Stats().Out[Calls], a.Stats().In[Calls])
		require.Equal(t, uint64(10*30+3), a.Stats().Out[Calls].Messages)
	})
}

// A caller's cancellation and its deadline reach the handler.
func TestCallContext(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		entered, left := make(chan struct{}, 1), make(chan error, 1)
		b.Handle("wait", func(ctx context.Context, _ NodeID, _ []byte) ([]byte, error) {
			entered <- struct{}{}
			<-ctx.Done()
			left <- ctx.Err()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }()
		_, err := a.Call(ctx, 2, "wait", nil)
		require.Error(t, err)
		require.Error(t, ctx.Err())
		require.ErrorIs(t, <-left, context.Canceled)

		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err = a.Call(ctx, 2, "wait", nil)
		require.Error(t, err)
		<-entered
		require.Error(t, <-left)
		<-ctx.Done() // the handler may have been told first
		_, err = a.Call(ctx, 2, "wait", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded, "a context that is done sends nothing")
		require.Empty(t, entered)
	})
}

// A node that closes while it answers leaves the outcome unknown, and Close
// ends its handlers.
func TestCallOfNodeThatCloses(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		entered := make(chan struct{})
		var ended atomic.Bool
		b.Handle("wait", func(ctx context.Context, _ NodeID, _ []byte) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			time.Sleep(20 * time.Millisecond) // Close, not luck, makes it end first
			ended.Store(true)
			return []byte("done"), nil
		})
		result := make(chan error, 1)
		go func() {
			_, err := a.Call(t.Context(), 2, "wait", nil)
			result <- err
		}()
		<-entered
		require.NoError(t, b.Close())
		require.True(t, ended.Load(), "Close waits for handlers")
		require.ErrorIs(t, <-result, ErrBroken)
		_, err := a.Call(t.Context(), 2, "wait", nil)
		require.ErrorIs(t, err, ErrUnreachable)
	})
}

// The caller's own Close ends its calls, too.
func TestCallerCloses(t *testing.T) {
	both(t, func(t *testing.T, a, b Transport) {
		entered := make(chan struct{})
		b.Handle("wait", func(ctx context.Context, _ NodeID, _ []byte) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			return nil, nil
		})
		result := make(chan error, 1)
		go func() {
			_, err := a.Call(t.Context(), 2, "wait", nil)
			result <- err
		}()
		<-entered
		require.NoError(t, a.Close())
		require.ErrorIs(t, <-result, ErrBroken)
		_, err := a.Call(t.Context(), 2, "wait", nil)
		require.ErrorIs(t, err, ErrClosed)
		_, err = a.Stream(t.Context(), 2, "wait")
		require.ErrorIs(t, err, ErrClosed)
	})
}
