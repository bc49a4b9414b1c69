package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A peer that does not read costs at most its outbox, and is given up after
// WriteTimeout; the others go on.
func TestTCPSlowReader(t *testing.T) {
	const outbox = 1 << 20
	s := newStreet()
	s.welcomes(t, 9, silence)
	a, lost := s.settle(t, 1, func(o *TCPOptions) { o.OutboxBytes, o.WriteTimeout = outbox, 300*time.Millisecond })
	_, in := s.settle(t, 2, nil)
	m := appends(4, 32<<10)
	box := a.peer(9).lanes[1]
	soon(t, "messages are dropped and told", func() bool {
		a.Send(9, Data, m)
		box.mu.Lock()
		defer box.mu.Unlock()
		require.LessOrEqual(t, box.bytes, int64(outbox))
		return a.Stats().Out[Data].Dropped > 1000 && lost.unreached() > 0
	})
	a.Send(2, Data, numbered(1))
	soon(t, "others go on", func() bool { return in.len() == 1 })
	soon(t, "given up and tried again", func() bool {
		a.Send(9, Data, m)
		return a.Stats().Reconnects > 0
	})
}

// A caller whose peer does not read or answer still hears of its context.
func TestTCPCallOfSilentPeer(t *testing.T) {
	s := newStreet()
	s.welcomes(t, 9, silence)
	a := s.open(t, 1, func(o *TCPOptions) { o.WriteTimeout, o.OutboxBytes = time.Hour, 8<<20 })
	busy := 0
	for range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := a.Call(ctx, 9, "x", make([]byte, 1<<20))
		cancel()
		if errors.Is(err, ErrBusy) {
			busy++
		} else {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	}
	require.Positive(t, busy, "what waits is bounded")
}

// A call without a deadline ends when its peer makes no room for WriteTimeout.
func TestTCPCallGivesUpWriting(t *testing.T) {
	s := newStreet()
	s.welcomes(t, 9, silence)
	a := s.open(t, 1, func(o *TCPOptions) { o.WriteTimeout = 100 * time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := a.Call(ctx, 9, "x", make([]byte, 32<<20))
	require.ErrorIs(t, err, ErrBroken)
}

func TestTCPMaxConns(t *testing.T) {
	var log journal
	s := newStreet()
	b, _ := s.settle(t, 2, func(o *TCPOptions) { o.MaxConns, o.Logger = 3, log.logger() })
	h := hello{protocolVersion, forData, 0, 1, 2}
	var conns []net.Conn
	for range 3 {
		c, err := knock(t, b, h)
		require.NoError(t, err)
		conns = append(conns, c)
	}
	a, _ := s.settle(t, 1, nil)
	_, err := a.Call(t.Context(), 2, "x", nil)
	require.ErrorContains(t, err, "too many connections")
	soon(t, "the reason is logged", func() bool { return strings.Contains(log.String(), "3 connections are open already") })
	conns[0].Close()
	soon(t, "there is room again", func() bool {
		_, err = a.Call(t.Context(), 2, "x", nil)
		return errors.Is(err, ErrNoService)
	})
}

// Those who come when all places are taken are told so, but only so many at a
// time: whoever says nothing must not cost more for that.
func TestTCPConnsBeyondTheLimitAreUnheard(t *testing.T) {
	s := newStreet()
	b, _ := s.settle(t, 2, func(o *TCPOptions) { o.MaxConns, o.DialTimeout = 1, time.Hour })
	dial := func() net.Conn {
		c, err := net.Dial("tcp", b.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	counts := func() [2]int {
		b.connMu.Lock()
		defer b.connMu.Unlock()
		return [2]int{b.accepted, b.refused}
	}
	silent := make([]net.Conn, 1+maxRefusals)
	for i := range silent {
		silent[i] = dial()
	}
	soon(t, "all places are taken", func() bool { return counts() == [2]int{1, maxRefusals} })
	for range 3 {
		c := dial()
		require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "closed unheard")
	}
	require.Equal(t, [2]int{1, maxRefusals}, counts())
	h := hello{protocolVersion, forData, 0, 1, 2}
	silent[maxRefusals].Close()
	soon(t, "one more is told", func() bool {
		_, err := knock(t, b, h)
		return err != nil && strings.Contains(err.Error(), "too many connections")
	})
	silent[0].Close()
	soon(t, "one more is welcome", func() bool {
		_, err := knock(t, b, h)
		return err == nil
	})
}

// A peer that reads requests and never answers, however often its callers give
// up, does not make them remember more than MaxCalls.
func TestTCPUnansweredCallsAreBounded(t *testing.T) {
	s := newStreet()
	s.welcomes(t, 9, func(c net.Conn, _ hello, _ <-chan struct{}) { io.Copy(io.Discard, c) })
	a := s.open(t, 1, func(o *TCPOptions) { o.MaxCalls = 3 })
	soon(t, "calls are refused", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		_, err := a.Call(ctx, 9, "x", nil)
		if !errors.Is(err, ErrBusy) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return false
		}
		require.ErrorContains(t, err, "node 9 has 3 calls to answer, at most 3 may wait")
		return true
	})
}

func TestTCPMaxCalls(t *testing.T) {
	s := newStreet()
	a := s.open(t, 1, nil)
	b := s.open(t, 2, func(o *TCPOptions) { o.MaxCalls, o.MaxCallBytes = 3, 1000 })
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	b.Handle("wait", func(context.Context, NodeID, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-leave
		return nil, nil
	})
	results := make(chan error, 3)
	call := func(n int) {
		_, err := a.Call(t.Context(), 2, "wait", make([]byte, n))
		results <- err
	}
	go call(5000) // alone it may be larger than the bound
	<-entered
	call(1)
	require.ErrorIs(t, <-results, ErrBusy, "by bytes")
	leave <- struct{}{}
	require.NoError(t, <-results)
	for range 3 {
		go call(1)
		<-entered
	}
	_, err := a.Call(t.Context(), 2, "wait", nil)
	require.ErrorIs(t, err, ErrBusy, "by number")
	close(leave)
	for range 3 {
		require.NoError(t, <-results)
	}
}

func TestTCPSizesAreRefusedEarly(t *testing.T) {
	s := newStreet()
	small := func(o *TCPOptions) { o.MaxFrameBytes = 64 << 10 }
	a, lost := s.settle(t, 1, small)
	b, in := s.settle(t, 2, small)
	b.Handle("big", func(context.Context, NodeID, []byte) ([]byte, error) { return make([]byte, 1<<20), nil })
	_, err := a.Call(t.Context(), 2, "big", make([]byte, 64<<10))
	require.ErrorContains(t, err, "request of 65536 bytes, at most")
	_, err = a.Call(t.Context(), 2, "big", nil)
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	require.ErrorContains(t, err, "answer of 1048576 bytes, at most")
	// A message that cannot be received is dropped alone.
	a.Send(2, Data, sequence(numbered(1), appends(1, 64<<10), numbered(1)))
	soon(t, "the others arrive", func() bool { return in.len() == 2 })
	require.Equal(t, uint64(1), a.Stats().Out[Data].Dropped)
	require.Equal(t, 1, lost.unreached())
}

func sequence(m ...[]Message) []Message { return slices.Concat(m...) }
