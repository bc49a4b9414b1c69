package transport

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSimCallTakesARoundTrip(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: 5 * time.Millisecond}}, func(t *testing.T, n *Network) {
		a, b, _, _ := couple(n)
		b.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
		start := time.Now()
		_, err := a.Call(t.Context(), 2, "echo", nil)
		require.NoError(t, err)
		require.Equal(t, 10*time.Millisecond, time.Since(start))
	})
}

func TestSimCallStallsAtACutAndGoesOn(t *testing.T) {
	for _, l := range []Link{{}, {Delay: time.Millisecond}} {
		for name, cut := range map[string]direction{"request": {1, 2}, "answer": {2, 1}} {
			bubble(t, NetworkOptions{Default: l}, func(t *testing.T, n *Network) {
				a, b, _, _ := couple(n)
				var ran atomic.Int64
				b.Handle("h", func(context.Context, NodeID, []byte) ([]byte, error) { ran.Add(1); return nil, nil })
				n.Cut(cut.from, cut.to)
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := a.Call(ctx, 2, "h", nil)
				require.ErrorIs(t, err, context.DeadlineExceeded, name)
				require.Equal(t, time.Second, time.Since(start))
				require.Equal(t, cut.from == 2, ran.Load() == 1, "a cut answer comes after the fact")
				go func() {
					time.Sleep(time.Minute)
					n.Heal()
				}()
				_, err = a.Call(t.Context(), 2, "h", nil)
				require.NoError(t, err, name)
				require.GreaterOrEqual(t, time.Since(start), time.Minute)
			})
		}
	}
}

// A request that departed runs although its caller gave up: an error of the
// context leaves the outcome unknown.
func TestSimCallRunsAfterItsCallerLeft(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: 10 * time.Millisecond}}, func(t *testing.T, n *Network) {
		a, b, _, _ := couple(n)
		ran := make(chan error, 1)
		b.Handle("h", func(ctx context.Context, _ NodeID, _ []byte) ([]byte, error) {
			ran <- ctx.Err()
			return nil, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		_, err := a.Call(ctx, 2, "h", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, <-ran, "news of the end travels too")
		synctest.Wait()
	})
}

func TestSimCallLost(t *testing.T) {
	n := NewNetwork(NetworkOptions{Seed: 4, Default: Link{Loss: 0.3}})
	a, b, _, _ := couple(n)
	var ran, failed int
	b.Handle("h", func(context.Context, NodeID, []byte) ([]byte, error) { ran++; return nil, nil })
	for range 1000 {
		if _, err := a.Call(t.Context(), 2, "h", nil); err != nil {
			require.ErrorIs(t, err, ErrBroken)
			failed++
		}
	}
	require.InDelta(t, 510, failed, 80, "1 - 0.7 * 0.7")
	require.InDelta(t, 700, ran, 75, "some ran and lost their answer")
	require.NoError(t, n.Close())
}

func TestSimStreamBreaksAtACut(t *testing.T) {
	for _, l := range []Link{{}, {Delay: time.Millisecond}} {
		bubble(t, NetworkOptions{Default: l}, func(t *testing.T, n *Network) {
			a, b, _, _ := couple(n)
			ended, ctxDone := make(chan error, 1), make(chan struct{})
			b.HandleStream("read", func(ctx context.Context, _ NodeID, s io.ReadWriteCloser) {
				_, err := io.Copy(io.Discard, s)
				ended <- err
				<-ctx.Done()
				close(ctxDone)
			})
			s, err := a.Stream(t.Context(), 2, "read")
			require.NoError(t, err)
			_, err = s.Write([]byte("abc"))
			require.NoError(t, err)
			n.Cut(2, 1)
			require.ErrorIs(t, <-ended, ErrBroken)
			<-ctxDone
			_, err = s.Write([]byte("abc"))
			require.ErrorIs(t, err, ErrBroken)
			require.NoError(t, s.Close())

			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = a.Stream(ctx, 2, "read")
			require.ErrorIs(t, err, context.DeadlineExceeded, "opening stalls")
			require.Empty(t, n.pipes)
		})
	}
}

func TestSimStreamKeepsToTheBandwidth(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: time.Millisecond, BytesPerSecond: 1 << 20}}, func(t *testing.T, n *Network) {
		a, b, _, in := couple(n)
		b.HandleStream("sink", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) { io.Copy(io.Discard, s) })
		s, err := a.Stream(t.Context(), 2, "sink")
		require.NoError(t, err)
		start := time.Now()
		go func() {
			time.Sleep(time.Second)
			a.Send(2, Data, numbered(1))
		}()
		_, err = s.Write(make([]byte, 4<<20))
		require.NoError(t, err)
		require.NoError(t, s.(Duplex).CloseWrite())
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		took := time.Since(start)
		synctest.Wait()
		in.mu.Lock()
		defer in.mu.Unlock()
		require.InDelta(t, 4, took.Seconds(), 0.05)
		// Not behind the whole megabyte that the window holds.
		require.InDelta(t, 1.0, in.at[0].Sub(start).Seconds(), 0.1)
		require.NoError(t, s.Close())
	})
}
