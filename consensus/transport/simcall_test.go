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

// The answer of a handler during which the link was cut waits, too.
func TestSimCallCutMeanwhile(t *testing.T) {
	bubble(t, NetworkOptions{}, func(t *testing.T, n *Network) {
		a, b, _, _ := couple(n)
		b.Handle("h", func(context.Context, NodeID, []byte) ([]byte, error) { n.Cut(2, 1); return nil, nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := a.Call(ctx, 2, "h", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// A request under way when the link is cut does not arrive before it heals.
func TestSimCallCutUnderWay(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: 10 * time.Millisecond}}, func(t *testing.T, n *Network) {
		a, b, _, _ := couple(n)
		start := time.Now()
		var ran time.Duration
		b.Handle("h", func(context.Context, NodeID, []byte) ([]byte, error) { ran = time.Since(start); return nil, nil })
		go func() {
			time.Sleep(5 * time.Millisecond)
			n.Cut(1, 2)
			time.Sleep(time.Second)
			n.Heal()
		}()
		_, err := a.Call(t.Context(), 2, "h", nil)
		require.NoError(t, err)
		require.Equal(t, 1015*time.Millisecond, ran)
	})
}

// A request that departed runs although its caller gave up: an error of the
// context leaves the outcome unknown. News of the end travels as well.
func TestSimCallRunsAfterItsCallerLeft(t *testing.T) {
	bubble(t, NetworkOptions{Default: Link{Delay: 10 * time.Millisecond}}, func(t *testing.T, n *Network) {
		a, b, _, _ := couple(n)
		start := time.Now()
		type seen struct {
			early error
			done  time.Duration
		}
		ran := make(chan seen, 1)
		b.Handle("h", func(ctx context.Context, _ NodeID, _ []byte) ([]byte, error) {
			time.Sleep(time.Millisecond)
			early := ctx.Err()
			<-ctx.Done()
			ran <- seen{early, time.Since(start)}
			return nil, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		_, err := a.Call(ctx, 2, "h", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, seen{nil, 15 * time.Millisecond}, <-ran, "a deadline is known there, one delay later")

		start = time.Now()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(5*time.Millisecond, cancel)
		_, err = a.Call(ctx, 2, "h", nil)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, (<-ran).early)
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

// A cut between a stream's opening and its first byte must not be missed.
func TestSimStreamCutWhileItOpens(t *testing.T) {
	n := NewNetwork(NetworkOptions{})
	a, b, _, _ := couple(n)
	b.HandleStream("h", func(context.Context, NodeID, io.ReadWriteCloser) { t.Error("ran") })
	b.Stamp(func() uint64 { return 0 }, func(uint64) { n.Cut(1, 2) })
	_, err := a.Stream(t.Context(), 2, "h")
	require.ErrorIs(t, err, ErrUnreachable)
	require.NoError(t, n.Close())
}
