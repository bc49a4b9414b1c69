package transport

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// An inbox records what arrives.
type inbox struct {
	mu   sync.Mutex
	got  []Message
	from []NodeID
	at   []time.Time
	lost []NodeID
}

func (i *inbox) Receive(from NodeID, m []Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for range m {
		i.from = append(i.from, from)
		i.at = append(i.at, time.Now())
	}
	i.got = append(i.got, m...)
}

func (i *inbox) Unreachable(to NodeID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lost = append(i.lost, to)
}

func (i *inbox) indexes() []uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []uint64
	for _, m := range i.got {
		all = append(all, m.Raft.GetIndex())
	}
	return all
}

// numbered makes n heartbeats that tell their number in Index.
func numbered(n int) []Message {
	m := make([]Message, n)
	for i := range m {
		m[i] = Message{Group: 1, From: 1, To: 2, Raft: &pb.Message{
			Type: pb.MsgHeartbeat.Enum(), Index: proto.Uint64(uint64(i)),
		}}
	}
	return m
}

func pair(n *Network) (a, b *Sim, at *inbox) {
	a, b, at = n.Node(1), n.Node(2), &inbox{}
	a.Receive(&inbox{})
	b.Receive(at)
	return a, b, at
}

func TestSimDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(NetworkOptions{Default: Link{Delay: 5 * time.Millisecond}})
		a, _, in := pair(n)
		start := time.Now()
		a.Send(2, Data, numbered(3))
		synctest.Wait()
		require.Empty(t, in.indexes())
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []uint64{0, 1, 2}, in.indexes())
		require.Equal(t, 5*time.Millisecond, in.at[0].Sub(start))
		require.NoError(t, n.Close())
	})
}

func TestSimCallAndStream(t *testing.T) {
	for _, link := range []Link{{}, {Delay: time.Millisecond, Jitter: time.Millisecond, BytesPerSecond: 100 << 20}} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(NetworkOptions{Default: link})
			a, b, _ := pair(n)
			b.Handle("echo", func(_ context.Context, from NodeID, req []byte) ([]byte, error) { return req, nil })
			got, err := a.Call(t.Context(), 2, "echo", []byte("hello"))
			require.NoError(t, err)
			require.Equal(t, "hello", string(got))
			b.HandleStream("echo", func(_ context.Context, from NodeID, s io.ReadWriteCloser) { io.Copy(s, s) })
			s, err := a.Stream(t.Context(), 2, "echo")
			require.NoError(t, err)
			big := make([]byte, 5<<20)
			go func() {
				s.Write(big)
				s.(Duplex).CloseWrite()
			}()
			back, err := io.ReadAll(s)
			require.NoError(t, err)
			require.Len(t, back, len(big))
			s.Close()
			require.NoError(t, n.Close())
		})
	}
}
