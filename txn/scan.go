package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// Scan returns the rows with keys in [start, end), in order, at most limit of them; 0 is
// no limit, and an empty end is behind all keys.
func (t *Tx) Scan(ctx context.Context, start, end string, limit int) ([]Row, error) {
	if err := t.usable("scan"); err != nil {
		return nil, err
	}
	if limit < 0 {
		return nil, fmt.Errorf("txn: scan [%q, %q): limit %d, expected 0 or more", start, end, limit)
	}
	if err := t.mayRead(); err != nil {
		return nil, err
	}
	for {
		rows, again, err := t.scan(ctx, meta.Span{Start: start, End: end}, limit)
		if err != nil {
			return nil, t.fail(ctx, err)
		}
		if !again {
			return rows, nil
		}
	}
}

// scan scans at the present timestamp. again says that it is another now.
func (t *Tx) scan(ctx context.Context, span meta.Span, limit int) (rows []Row, again bool, err error) {
	own := t.ownIn(span)
	want := limit
	if limit > 0 {
		want += len(own) // what the transaction deletes does not count
	}
	at := span.Start
	for at != span.End || span.End == "" {
		parts := t.c.n.Parts(meta.Span{Start: at, End: span.End})
		if len(parts) == 0 {
			break
		}
		got, next, err := t.scanPart(ctx, parts[0].Span, want-len(rows)*min(want, 1))
		if errors.Is(err, cluster.ErrSplit) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if next.late {
			return nil, true, nil
		}
		rows = append(rows, got...)
		if at = next.key; want > 0 && len(rows) >= want || next.end {
			break
		}
	}
	read := span
	if limit > 0 && len(rows) >= want {
		read.End = at
	}
	if read.Start != read.End || read.End == "" {
		t.spans = append(t.spans, read)
	}
	rows = mergeRows(rows, own)
	if err := t.addOwn(rows); err != nil {
		return nil, false, err
	}
	if limit > 0 && len(rows) > limit {
		rows = rows[:limit]
	}
	return rows, false, nil
}

// A goOn is where a scan goes on.
type goOn struct {
	key  string
	end  bool // there is nothing more
	late bool // the transaction reads at another timestamp now
}

// scanPart reads what goes into one answer of one shard.
func (t *Tx) scanPart(ctx context.Context, span meta.Span, limit int) ([]Row, goOn, error) {
	service := serviceScan
	if t.near {
		rows, next, ask, err := t.scanHere(span, max(0, limit))
		if err != nil || ask == "" {
			return rows, onFrom(span, next), err
		}
		service = ask
	}
	g := scanRequest{look: look{txn: t.id.Key, at: t.at, horizon: t.horizon}, span: span, limit: max(0, limit)}
	b, err := t.c.n.CallSpan(ctx, service, span, g.encode())
	if err != nil {
		return nil, goOn{}, err
	}
	r := read(b)
	if err := r.verdict(serviceScan); err != nil {
		return nil, goOn{}, err
	}
	above, next := r.ts(), r.key()
	var rows []Row
	for len(r.Rest) > 0 && !r.Bad {
		row := Row{Key: r.key()}
		row.Value, row.TS, _ = r.version()
		rows = append(rows, row)
	}
	if err := r.end(serviceScan); err != nil {
		return nil, goOn{}, err
	}
	if above > t.at {
		return nil, goOn{late: true}, t.advance(ctx, above)
	}
	return rows, onFrom(span, next), nil
}

// onFrom goes on at a key, or behind a span if that is empty.
func onFrom(span meta.Span, next string) goOn {
	if next == "" {
		next = span.End
	}
	return goOn{key: next, end: next == ""}
}

// ownIn returns what the transaction writes in a span, by key.
func (t *Tx) ownIn(span meta.Span) (list []*mvcc.Write) {
	for key, i := range t.writes {
		if span.Contains(key) {
			list = append(list, &t.list[i])
		}
	}
	slices.SortFunc(list, func(a, b *mvcc.Write) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// mergeRows puts what a transaction writes over what it has read. Where it adds, Value
// stays as it was, or is missing.
func mergeRows(rows []Row, own []*mvcc.Write) []Row {
	if len(own) == 0 {
		return rows
	}
	all := make([]Row, 0, len(rows)+len(own))
	for len(rows) > 0 || len(own) > 0 {
		switch {
		case len(own) == 0 || len(rows) > 0 && rows[0].Key < own[0].Key:
			all, rows = append(all, rows[0]), rows[1:]
			continue
		case len(rows) > 0 && rows[0].Key == own[0].Key:
			if own[0].Kind == mvcc.Add {
				all = append(all, rows[0])
			}
			rows = rows[1:]
		case own[0].Kind == mvcc.Add:
			all = append(all, Row{Key: own[0].Key})
		}
		if own[0].Kind == mvcc.Put {
			all = append(all, Row{Key: own[0].Key, Value: slices.Clone(own[0].Value)})
		}
		own = own[1:]
	}
	return all
}

// addOwn adds what the transaction adds to the rows that it has read.
func (t *Tx) addOwn(rows []Row) error {
	for i := range rows {
		w, ok := t.writes[rows[i].Key]
		if !ok || t.list[w].Kind != mvcc.Add {
			continue
		}
		n, ok := mvcc.Counter(&mvcc.Version{TS: 1, Deleted: rows[i].Value == nil, Value: rows[i].Value})
		if !ok {
			return &Refusal{Reason: NoCounter, Key: rows[i].Key}
		}
		rows[i].Value = mvcc.AppendCounter(nil, n+t.list[w].Delta)
	}
	return nil
}
