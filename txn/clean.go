package txn

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// serviceFates asks the shard of anchors how transactions of dead nodes have ended.
const serviceFates = "txn.fates"

// cleanAtOnce bounds the intents that are ended by one command, and fatesWithin how long
// it may take to hear of their transactions: others are to be tended too.
const (
	cleanAtOnce = 1024
	fatesWithin = time.Second
)

// A life is one of a node.
type life struct{ node, epoch uint64 }

// deadIn returns the lives that intents in a span are of and that have ended, as the cluster
// says: a later one has begun, or the node was declared dead or removed.
func (p *Participant) deadIn(store *mvcc.Store, span meta.Span) map[life]bool {
	s, _ := p.node.Load().View()
	over := map[life]bool{}
	store.IntentsIn(span.Start, span.End, func(i *mvcc.Intent) bool {
		l := life{i.Txn.Node, i.Txn.Epoch}
		if _, known := over[l]; known {
			return true
		}
		n, ok := s.Node(consensus.NodeID(l.node))
		over[l] = s.Removed(consensus.NodeID(l.node)) || ok && (n.Epoch > l.epoch || n.Epoch == l.epoch && n.Condition == meta.Dead)
		return true
	})
	for l, dead := range over {
		if !dead {
			delete(over, l)
		}
	}
	return over
}

// fence has nothing more written here for lives that have ended.
func (s *seat) fence(lives map[life]bool) error {
	h := s.header()
	b := mvcc.AppendHeader(nil, &h)
	n := len(b)
	for l := range lives {
		if !s.store.State().Fenced(l.node, l.epoch) {
			b = mvcc.AppendFence(b, l.node, l.epoch)
		}
	}
	if len(b) == n {
		return nil
	}
	a, err := s.propose(b)
	if err == nil {
		err = refusalBy(a, nil)
	}
	return err
}

// clean ends the intents here of all transactions whose coordinators' nodes have died,
// many by one command. Behind the fence none of them can begin anything: not an intent
// here, and where its anchor is fenced as well, not a record. What is staging there is
// recovered one by one.
func (s *seat) clean(lives map[life]bool) error {
	if err := s.fence(lives); err != nil {
		return err
	}
	byAnchor := map[meta.ShardID][]*mvcc.Intent{}
	s.store.IntentsIn(s.span.Start, s.span.End, func(i *mvcc.Intent) bool {
		if lives[life{i.Txn.Node, i.Txn.Epoch}] {
			at, _ := s.p.node.Load().Locate(i.Txn.Anchor)
			byAnchor[at.Shard] = append(byAnchor[at.Shard], i)
		}
		return true
	})
	var failed error
	for _, list := range byAnchor {
		for some := range slices.Chunk(list, cleanAtOnce) {
			if err := s.cleanSome(some); err != nil {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}

// cleanSome ends intents whose transactions have their anchors in one shard.
func (s *seat) cleanSome(list []*mvcc.Intent) error {
	txns := make([]id.Txn, len(list))
	anchors := make([]string, len(list))
	for i, in := range list {
		txns[i], anchors[i] = in.Txn, in.Txn.Anchor
	}
	ctx, cancel := context.WithTimeout(s.life, fatesWithin)
	defer cancel()
	b, err := s.p.node.Load().CallSpan(ctx, serviceFates, coverKeys(anchors), appendTxns(nil, txns))
	if err != nil {
		return err
	}
	fates, err := parseFates(b, len(list))
	if err != nil {
		return err
	}
	h := s.header()
	c := mvcc.AppendHeader(make([]byte, 0, 64*len(list)), &h)
	var ended []*mvcc.Intent
	for i, f := range fates {
		ts := hlc.Timestamp(0)
		switch f.Status {
		case commit.Pending, commit.Staging:
			s.pushTxn(txns[i], id.Key{})
			continue
		case commit.Committed:
			ts = f.TS
		}
		c = mvcc.AppendResolve(c, txns[i].Key, list[i].Write.Key, ts)
		ended = append(ended, list[i])
	}
	if len(ended) == 0 {
		return nil
	}
	a, err := s.propose(c)
	if err == nil {
		err = refusalBy(a, nil)
	}
	if err != nil {
		return err
	}
	for _, in := range ended {
		s.locks.Release(in.Txn.Key, in.Write.Key)
	}
	return nil
}

func appendTxns(b []byte, list []id.Txn) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, txn := range list {
		b = txn.Append(b)
	}
	return b
}

func parseFates(b []byte, want int) (list []commit.Record, err error) {
	r := read(b)
	if err := r.verdict(serviceFates); err != nil {
		return nil, err
	}
	for range want {
		list = append(list, r.record())
	}
	return list, r.end(serviceFates)
}

// serveFates fences the lives that are asked about, and says how their transactions have
// ended. That of one without a record is known for good: it comes to have none. No
// latches are needed, since a version that tells of a commit is there before the record
// goes.
func (p *Participant) serveFates(_ context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	r := read(q.Body)
	var txns []id.Txn
	lives := map[life]bool{}
	for n := r.Count(cleanAtOnce); n > 0 && !r.Bad; n-- {
		txns = append(txns, r.txn())
		lives[life{txns[len(txns)-1].Node, txns[len(txns)-1].Epoch}] = true
	}
	if err := r.end(serviceFates); err != nil {
		return nil, err
	}
	if err := s.fence(lives); err != nil {
		return nil, err
	}
	b := []byte{said}
	for _, txn := range txns {
		if !s.span.Contains(txn.Anchor) {
			return nil, errMoved
		}
		l, err := s.look(txn, nil)
		if err != nil {
			return nil, err
		}
		_, m := l.Query(commit.Query{Txn: txn})
		m.Record.Keys = nil
		b = appendRecord(b, m.Record)
	}
	return b, s.holds()
}
