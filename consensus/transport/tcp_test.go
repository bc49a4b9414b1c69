package transport

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A street is where nodes find each other's addresses.
type street struct {
	mu    sync.Mutex
	addrs map[NodeID]string
}

func newStreet() *street { return &street{addrs: make(map[NodeID]string)} }

func (s *street) resolve(id NodeID) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.addrs[id]; ok {
		return a, nil
	}
	return "", fmt.Errorf("node %d does not live here", id)
}

func (s *street) move(id NodeID, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs[id] = addr
}

// open opens a node that the others find.
func (s *street) open(t testing.TB, id NodeID, change func(*TCPOptions)) *TCP {
	o := TCPOptions{Node: id, Resolve: s.resolve, DialBackoff: time.Millisecond, MaxDialBackoff: 20 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	n, err := ListenTCP(o)
	require.NoError(t, err)
	t.Cleanup(func() { n.Close() })
	s.move(id, n.Addr().String())
	return n
}

// settle opens a node with an inbox that takes its messages.
func (s *street) settle(t testing.TB, id NodeID, change func(*TCPOptions)) (*TCP, *inbox) {
	n, in := s.open(t, id, change), &inbox{}
	n.Receive(in)
	return n, in
}

// soon waits for a condition; how long it takes is not judged.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, time.Millisecond, what)
}

func TestTCPOrderAndCounters(t *testing.T) {
	s := newStreet()
	a, _ := s.settle(t, 1, nil)
	b, in := s.settle(t, 2, nil)
	const n = 20000
	all := numbered(n)
	for i := 0; i < n; i += 10 {
		a.Send(2, Data, all[i:i+10])
	}
	a.Send(2, Control, numbered(3))
	soon(t, "all arrive", func() bool { return b.Stats().In[Data].Messages == n && b.Stats().In[Control].Messages == 3 })
	var last uint64
	seen := 0
	for _, index := range in.indexes() {
		if index >= 3 { // the control messages are 0 to 2 and may come between
			require.Greater(t, index, last)
			last = index
			seen++
		}
	}
	require.Equal(t, n-3, seen)
	soon(t, "the sender counted", func() bool { return a.Stats().Out[Control].Messages == 3 && a.Stats().Out[Data].Messages == n })
	require.Equal(t, a.Stats().Out, b.Stats().In)
	require.Zero(t, a.Stats().Reconnects)
}

func TestTCPCarriesEveryMessage(t *testing.T) {
	s := newStreet()
	a, _ := s.settle(t, 1, nil)
	_, in := s.settle(t, 2, nil)
	r := newMaker(7)
	var all []Message
	for range 200 {
		m := r.messages(1 + r.IntN(20))
		a.Send(2, Data, m)
		all = append(all, m...)
	}
	soon(t, "all arrive", func() bool { return in.len() == len(all) })
	require.NoError(t, equal(all, in.got))
}

// Messages much larger than a frame's target and than what is read ahead.
func TestTCPLargeMessages(t *testing.T) {
	s := newStreet()
	a, _ := s.settle(t, 1, nil)
	_, in := s.settle(t, 2, nil)
	var all []Message
	for i, size := range []int{100 << 10, 1 << 20, 1<<20 + 1, 9 << 20, 10} {
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(j*7 + i)
		}
		all = append(all, Message{Group: 1, Raft: &pb.Message{Type: pb.MsgApp.Enum(), Entries: []*pb.Entry{{Term: proto.Uint64(1), Data: data}}}})
	}
	a.Send(2, Data, all)
	soon(t, "all arrive", func() bool { return in.len() == len(all) })
	require.NoError(t, equal(all, in.got))
}

func TestTCPReconnectsAfterRestart(t *testing.T) {
	s := newStreet()
	a, lost := s.settle(t, 1, nil)
	b, in := s.settle(t, 2, nil)
	a.Send(2, Data, numbered(1))
	soon(t, "the first arrives", func() bool { return in.len() == 1 })
	require.NoError(t, b.Close())
	soon(t, "the loss is told", func() bool { return lost.unreached() >= 1 })
	_, in = s.settle(t, 2, nil)
	soon(t, "messages arrive again", func() bool {
		a.Send(2, Data, numbered(1))
		return in.len() > 0
	})
	require.Positive(t, a.Stats().Reconnects)
}

func TestTCPUnreachable(t *testing.T) {
	s := newStreet()
	a, lost := s.settle(t, 1, nil)
	a.Send(9, Data, numbered(3))
	soon(t, "told and counted", func() bool { return lost.unreached() == 1 && a.Stats().Out[Data].Dropped == 3 })
}

// Calls to a node that is down share one attempt, and for DialBackoff its
// failure.
func TestTCPCallsShareAnAttempt(t *testing.T) {
	var asked atomic.Int64
	a, err := ListenTCP(TCPOptions{Node: 1, DialBackoff: time.Hour, MaxDialBackoff: time.Hour, Resolve: func(NodeID) (string, error) {
		asked.Add(1)
		return "", errors.New("moved away")
	}})
	require.NoError(t, err)
	for range 5 {
		_, err := a.Call(t.Context(), 2, "x", nil)
		require.ErrorIs(t, err, ErrUnreachable)
		require.ErrorContains(t, err, "moved away")
	}
	require.Equal(t, int64(1), asked.Load())
	require.NoError(t, a.Close())
}

// The pause between the attempts that calls cause doubles: however long this
// test is held up, there are but a few.
func TestTCPCallsBackOff(t *testing.T) {
	var asked atomic.Int64
	a, err := ListenTCP(TCPOptions{Node: 1, DialBackoff: time.Millisecond, MaxDialBackoff: time.Hour, Resolve: func(NodeID) (string, error) {
		asked.Add(1)
		return "", errors.New("moved away")
	}})
	require.NoError(t, err)
	for range 100 {
		_, err := a.Call(t.Context(), 2, "x", nil)
		require.ErrorIs(t, err, ErrUnreachable)
		time.Sleep(time.Millisecond + time.Microsecond) // past the first pause
	}
	require.Greater(t, asked.Load(), int64(2))
	require.Less(t, asked.Load(), int64(20), "for as many, a quarter of an hour must pass")
	require.NoError(t, a.Close())
}

// Neither a node that cannot be reached nor one that welcomes and hangs up is
// dialled again before its time.
func TestTCPBacksOff(t *testing.T) {
	var dialled atomic.Int64
	moody := friend(t, func(c net.Conn, h hello, _ <-chan struct{}) { c.Write(appendWelcome(nil, welcome, h.cluster, h.to)) })
	for name, resolve := range map[string]func() (string, error){
		"unknown": func() (string, error) { return "", errors.New("moved away") },
		"moody":   func() (string, error) { return moody, nil },
	} {
		t.Run(name, func(t *testing.T) {
			dialled.Store(0)
			a, err := ListenTCP(TCPOptions{Node: 1, DialBackoff: time.Hour, MaxDialBackoff: time.Hour, Resolve: func(NodeID) (string, error) {
				dialled.Add(1)
				return resolve()
			}})
			require.NoError(t, err)
			lost := &inbox{}
			a.Receive(lost)
			a.Send(2, Data, numbered(1))
			soon(t, "told", func() bool { return lost.unreached() == 1 })
			for range 50 { // time enough for an attempt too many
				a.Send(2, Data, numbered(1))
				time.Sleep(time.Millisecond)
			}
			require.Equal(t, int64(1), dialled.Load())
			require.NoError(t, a.Close())
		})
	}
}

// A slowConn notes how much is written under each deadline.
type slowConn struct {
	net.Conn
	under []int
}

func (c *slowConn) SetWriteDeadline(time.Time) error {
	c.under = append(c.under, 0)
	return nil
}

func (c *slowConn) Write(b []byte) (int, error) {
	c.under[len(c.under)-1] += len(b)
	return len(b), nil
}

// The longest frame would never get through a slow network if all of it had to
// be taken within one timeout.
func TestWriteDeadlineIsOfAPiece(t *testing.T) {
	var c slowConn
	require.NoError(t, writeWithin(time.Second, &c, make([]byte, 3*writeTarget+5)))
	require.Equal(t, []int{writeTarget, writeTarget, writeTarget, 5}, c.under)
}
