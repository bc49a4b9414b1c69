package transport

import (
	"context"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/phantomdb/phantomdb/harness"
)

// A counter counts what arrives.
type counter struct{ n atomic.Int64 }

func (c *counter) Receive(_ NodeID, m []Message) { c.n.Add(int64(len(m))) }
func (c *counter) Unreachable(NodeID)            {}

// appends makes n appends of one entry of size bytes each, for as many groups.
func appends(n, size int) []Message {
	m := make([]Message, n)
	data := make([]byte, size)
	for i := range m {
		index := uint64(1000 + i)
		m[i] = Message{Group: 7, From: 1, To: 2, Raft: &pb.Message{
			Type: pb.MsgApp.Enum(), To: proto.Uint64(2), From: proto.Uint64(1), Term: proto.Uint64(5),
			LogTerm: proto.Uint64(5), Index: proto.Uint64(index), Commit: proto.Uint64(index - 1),
			Entries: []*pb.Entry{{Type: pb.EntryNormal.Enum(), Term: proto.Uint64(5), Index: proto.Uint64(index + 1), Data: data}},
		}}
	}
	return m
}

// ends opens two nodes of a kind, the second with a receiver.
func ends(b *testing.B, kind string) (Transport, Transport, *counter) {
	harness.Begin(b)
	var x, y Transport
	if kind == "sim" {
		n := NewNetwork(NetworkOptions{})
		x, y = n.Node(1), n.Node(2)
		b.Cleanup(func() { n.Close() })
	} else {
		s := newStreet()
		open := func(id NodeID) Transport {
			t, err := ListenTCP(TCPOptions{Node: id, Resolve: s.resolve})
			if err != nil {
				b.Fatal(err)
			}
			s.move(id, t.Addr().String())
			b.Cleanup(func() { t.Close() })
			return t
		}
		x, y = open(1), open(2)
	}
	c := &counter{}
	x.Receive(&counter{})
	y.Receive(c)
	return x, y, c
}

// sentBy reads what a node sent, for the units of a line.
func sentBy(t Transport) func() harness.Counters {
	return func() harness.Counters {
		out, _ := t.Stats().Total()
		return harness.Counters{WireBytes: int64(out.Bytes), Messages: int64(out.Messages)}
	}
}

// BenchmarkSend asks what one Send costs until its appends of one entry are
// received, by how many it holds. At most 8,192 messages are under way.
//
//	go test -run='^$' -bench=Send ./consensus/transport
func BenchmarkSend(b *testing.B) {
	for _, net := range harness.Axis("net", "sim", "tcp") {
		for _, batch := range harness.Points([]int{64}, []int{1, 64}) {
			b.Run(harness.Name("net", net, "batch", batch, "size", 128), func(b *testing.B) {
				x, _, c := ends(b, net)
				m := appends(batch, 128)
				sent := int64(0)
				harness.Micro(b, func() error {
					x.Send(2, Data, m)
					sent += int64(batch)
					for sent-c.n.Load() > 8192 {
						runtime.Gosched()
					}
					return nil
				})
				for c.n.Load() < sent {
					runtime.Gosched()
				}
				b.ReportMetric(float64(batch), "msgs/op")
				b.ReportMetric(float64(bytesOf(m)), "wire-B/op")
			})
		}
	}
}

// BenchmarkCall asks how long a call of 128 bytes takes there and back.
//
//	go test -run='^$' -bench=Call ./consensus/transport
func BenchmarkCall(b *testing.B) {
	for _, net := range harness.Axis("net", "sim", "tcp") {
		for _, clients := range harness.Axis("clients", harness.Points([]int{1}, []int{1, 64})...) {
			b.Run(harness.Name("net", net, "clients", clients, "size", 128), func(b *testing.B) {
				x, y, _ := ends(b, net)
				y.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
				req := make([]byte, 128)
				harness.Run(b, harness.Spec{Clients: clients, Counters: sentBy(x)}, func(c *harness.Client) error {
					_, err := x.Call(c.Context, 2, "echo", req)
					return err
				})
			})
		}
	}
}

// BenchmarkStream asks how fast one stream carries chunks of 64 KiB.
//
//	go test -run='^$' -bench=Stream ./consensus/transport
func BenchmarkStream(b *testing.B) {
	const size = 64 << 10
	for _, net := range harness.Axis("net", "sim", "tcp") {
		b.Run(harness.Name("net", net, "size", size), func(b *testing.B) {
			x, y, _ := ends(b, net)
			y.HandleStream("sink", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) {
				if _, err := io.Copy(io.Discard, s); err != nil {
					b.Error(err)
				}
			})
			s, err := x.Stream(b.Context(), 2, "sink")
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			chunk := make([]byte, size)
			b.SetBytes(size)
			harness.Micro(b, func() error {
				_, err := s.Write(chunk)
				return err
			})
			if err := s.(Duplex).CloseWrite(); err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, s); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkCodec asks what a frame of 64 appends costs to measure, encode and
// decode.
//
//	go test -run='^$' -bench=Codec ./consensus/transport
func BenchmarkCodec(b *testing.B) {
	m := appends(64, 128)
	sum := sumOf(m)
	body := appendBody(nil, m, sum)
	var got []Message
	for _, c := range []struct {
		name string
		op   func() error
	}{
		{"measure", func() error { sum = sumOf(m); return nil }},
		{"encode", func() error { body = appendBody(body[:0], m, sum); return nil }},
		{"decode", func() (err error) { got, _, err = decodeBody(got[:0], body); return err }},
	} {
		b.Run(harness.Name("op", c.name, "batch", len(m), "size", 128), func(b *testing.B) { harness.Micro(b, c.op) })
	}
}
