package transport

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
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

// BenchmarkSend asks how many messages of one entry go one way, by how many a
// Send holds. At most 8,192 are under way.
//
//	go test -run='^$' -bench=Send ./consensus/transport
func BenchmarkSend(b *testing.B) {
	for _, kind := range []string{"sim", "tcp"} {
		for _, batch := range []int{1, 4, 64} {
			b.Run(fmt.Sprintf("net=%s/batch=%d/size=128", kind, batch), func(b *testing.B) {
				x, _, c := ends(b, kind)
				m := appends(batch, 128)
				sent := int64(0)
				for b.Loop() {
					x.Send(2, Data, m)
					sent += int64(batch)
					for sent-c.n.Load() > 8192 {
						runtime.Gosched()
					}
				}
				for c.n.Load() < sent {
					runtime.Gosched()
				}
				b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "msgs/s")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent), "ns/msg")
				b.ReportAllocs()
			})
		}
	}
}

// BenchmarkCall asks how long a call of 128 bytes takes there and back, one
// after the other and by 64 clients.
//
//	go test -run='^$' -bench=Call ./consensus/transport
func BenchmarkCall(b *testing.B) {
	for _, kind := range []string{"sim", "tcp"} {
		x, y, _ := ends(b, kind)
		y.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
		req := make([]byte, 128)
		call := func(b *testing.B) {
			if _, err := x.Call(b.Context(), 2, "echo", req); err != nil {
				b.Error(err)
			}
		}
		b.Run(fmt.Sprintf("net=%s/clients=1/size=128", kind), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call(b)
			}
		})
		b.Run(fmt.Sprintf("net=%s/clients=64/size=128", kind), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					call(b)
				}
			})
		})
	}
}

// BenchmarkStream asks how fast one stream carries bytes.
//
//	go test -run='^$' -bench=Stream ./consensus/transport
func BenchmarkStream(b *testing.B) {
	for _, kind := range []string{"sim", "tcp"} {
		b.Run("net="+kind, func(b *testing.B) {
			x, y, _ := ends(b, kind)
			y.HandleStream("sink", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) { io.Copy(io.Discard, s) })
			s, err := x.Stream(b.Context(), 2, "sink")
			if err != nil {
				b.Fatal(err)
			}
			chunk := make([]byte, 64<<10)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if _, err := s.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			s.(Duplex).CloseWrite()
			io.Copy(io.Discard, s)
			s.Close()
		})
	}
}

// BenchmarkCodec asks what one message costs to measure, encode and decode, in
// frames of 64.
//
//	go test -run='^$' -bench=Codec ./consensus/transport
func BenchmarkCodec(b *testing.B) {
	m := appends(64, 128)
	body := appendBody(nil, m, sumOf(m))
	perMessage := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(m)), "ns/msg")
		b.ReportAllocs()
	}
	b.Run("op=size", func(b *testing.B) {
		for b.Loop() {
			bytesOf(m)
		}
		perMessage(b)
	})
	b.Run("op=encode", func(b *testing.B) {
		sum := sumOf(m)
		for b.Loop() {
			body = appendBody(body[:0], m, sum)
		}
		perMessage(b)
	})
	b.Run("op=decode", func(b *testing.B) {
		var got []Message
		for b.Loop() {
			var err error
			if got, _, err = decodeBody(got[:0], body); err != nil {
				b.Fatal(err)
			}
		}
		perMessage(b)
	})
}
