package txn_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/phantomdb/phantomdb/harness/load"
	"github.com/phantomdb/phantomdb/txn"
)

// An orderEntry is four of the five transactions of TPC-C 5.11 in rows of keys and
// values, scaled down, without screens and waiting: nothing that it measures is tpmC.
// Delivery, which the standard has run behind, is left out.
//
// A warehouse and its districts and orders are in one shard, its customers in another
// one, its stock in a third: tables lie apart, as ranges of keys do. So a new order
// writes in two shards at least and reads in a third, and a payment writes in two. Of
// the lines of orders 1 % are supplied by another warehouse, of payments 15 % come from
// a customer of another one, and 1 % of new orders name an item that there is not and
// are rolled back, as clauses 2.4.1 and 2.5.1 ask.
type orderEntry struct {
	w          *bench
	warehouses int
}

// The sizes: of the standard 10 districts, 3,000 customers in each, 100,000 items.
const (
	orderDistricts = 10
	orderCustomers = 30
	orderItems     = 500
)

// orderKinds are the transactions with the weights of the standard's mix, 45, 43, 4 and 4,
// in percent of these.
var orderKinds = []load.Kind{
	{Name: "neworder", Weight: 47}, {Name: "payment", Weight: 45}, {Name: "orderstatus", Weight: 4}, {Name: "stocklevel", Weight: 4},
}

func (m *orderEntry) at(warehouse, away int, format string, args ...any) string {
	return fmt.Sprintf("%02d/w%02d/", 100*((warehouse+away)%len(m.w.ids))/len(m.w.ids), warehouse) + fmt.Sprintf(format, args...)
}

func (m *orderEntry) warehouse(w int) string   { return m.at(w, 0, "ytd") }
func (m *orderEntry) next(w, d int) string     { return m.at(w, 0, "district%d/next", d) }
func (m *orderEntry) district(w, d int) string { return m.at(w, 0, "district%d/ytd", d) }
func (m *orderEntry) order(w, d int, n int64) string {
	return m.at(w, 0, "order%d/%08d", d, n)
}
func (m *orderEntry) latest(w, d, c int) string   { return m.at(w, 7, "latest%d/%03d", d, c) }
func (m *orderEntry) customer(w, d, c int) string { return m.at(w, 7, "customer%d/%03d", d, c) }
func (m *orderEntry) stock(w, i int) string       { return m.at(w, 13, "stock%03d", i) }

// fill fills the rows of one warehouse.
func (m *orderEntry) fill(s *session, w int) error {
	errs := []error{s.put(m.warehouse(w), amount(0))}
	for d := range orderDistricts {
		errs = append(errs, s.put(m.next(w, d), amount(1)), s.put(m.district(w, d), amount(0)))
		for c := range orderCustomers {
			errs = append(errs, s.put(m.customer(w, d, c), amount(0)))
		}
	}
	for i := range orderItems {
		errs = append(errs, s.put(m.stock(w, i), amount(50)))
	}
	return errors.Join(errs...)
}

// errNoItem is why a client gives a new order up, as it should.
var errNoItem = errors.New("no such item")

// one does one transaction of a kind.
func (m *orderEntry) one(k *worker, kind string) error {
	w, d, c := k.rand.IntN(m.warehouses), k.rand.IntN(orderDistricts), k.rand.IntN(orderCustomers)
	switch kind {
	case "neworder":
		return m.newOrder(k, w, d, c)
	case "payment":
		return m.payment(k, w, d, c)
	case "orderstatus":
		return k.run(txn.TxOptions{ReadOnly: true}, func(s *session) error { return m.status(s, w, d, c) })
	case "stocklevel":
		return k.run(txn.TxOptions{ReadOnly: true}, func(s *session) error { return m.level(s, w, d) })
	}
	return fmt.Errorf("no such transaction: %s", kind)
}

// A line is one of an order.
type line struct{ item, supplier, quantity int }

// lines draws 5 to 15 lines, of different items.
func (m *orderEntry) lines(r *rand.Rand, w int) (list []line) {
	for _, i := range r.Perm(orderItems)[:5+r.IntN(11)] {
		l := line{i, w, 1 + r.IntN(10)}
		if r.IntN(100) == 0 {
			l.supplier = r.IntN(m.warehouses)
		}
		list = append(list, l)
	}
	return list
}

func (m *orderEntry) newOrder(k *worker, w, d, c int) error {
	lines, wrong := m.lines(k.rand, w), k.rand.IntN(100) == 0
	err := k.run(txn.TxOptions{}, func(s *session) error {
		if _, err := s.amount(m.customer(w, d, c)); err != nil { // whose discount it would be
			return err
		}
		n, err := s.lockedAmount(m.next(w, d))
		if err == nil {
			err = s.put(m.next(w, d), amount(n+1))
		}
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, l := range lines {
			if err := m.take(s, l); err != nil {
				return err
			}
			fmt.Fprintf(&text, "%d,%d,%d;", l.item, l.supplier, l.quantity)
		}
		if wrong {
			return errNoItem
		}
		if _, _, err := s.get(m.latest(w, d, c)); err != nil {
			return err
		}
		return errors.Join(s.put(m.latest(w, d, c), amount(n)), s.put(m.order(w, d, n), []byte(text.String())))
	})
	if errors.Is(err, errNoItem) {
		return nil
	}
	return err
}

// take takes what a line orders from the stock, which is filled up where it runs low.
func (m *orderEntry) take(s *session, l line) error {
	key := m.stock(l.supplier, l.item)
	left, err := s.amount(key)
	if err != nil {
		return err
	}
	if left -= int64(l.quantity); left < 10 {
		left += 91
	}
	return s.put(key, amount(left))
}

func (m *orderEntry) payment(k *worker, w, d, c int) error {
	v, home := int64(1+k.rand.IntN(5000)), w
	if k.rand.IntN(100) < 15 {
		home = k.rand.IntN(m.warehouses)
	}
	return k.run(txn.TxOptions{}, func(s *session) error {
		for _, key := range []string{m.warehouse(w), m.district(w, d)} {
			has, err := s.lockedAmount(key)
			if err == nil {
				err = s.put(key, amount(has+v))
			}
			if err != nil {
				return err
			}
		}
		return s.add(m.customer(home, d, c), -v, false)
	})
}

// status reads what a customer owes, and the latest order.
func (m *orderEntry) status(s *session, w, d, c int) error {
	if _, err := s.amount(m.customer(w, d, c)); err != nil {
		return err
	}
	b, there, err := s.get(m.latest(w, d, c))
	if err != nil || !there {
		return err
	}
	n := int64(binary.BigEndian.Uint64(b))
	if _, there, err = s.get(m.order(w, d, n)); err == nil && !there {
		err = fmt.Errorf("no order %d of customer %d in district %d of warehouse %d", n, c, d, w)
	}
	return err
}

// level reads the latest order of a district, and how much is left of its items.
func (m *orderEntry) level(s *session, w, d int) error {
	n, err := s.amount(m.next(w, d))
	if err != nil || n == 1 {
		return err
	}
	b, _, err := s.get(m.order(w, d, n-1))
	if err != nil {
		return err
	}
	for text := range strings.SplitSeq(strings.TrimSuffix(string(b), ";"), ";") {
		var l line
		if _, err := fmt.Sscanf(text, "%d,%d,%d", &l.item, &l.supplier, &l.quantity); err != nil {
			return fmt.Errorf("order %d: line %q: %w", n-1, text, err)
		}
		if _, err := s.amount(m.stock(w, l.item)); err != nil {
			return err
		}
	}
	return nil
}

// consistent checks conditions 1 to 3 of clause 3.3.2: a warehouse has been paid what its
// districts have, and the orders of a district have all numbers below its next one.
func (m *orderEntry) consistent(ctx context.Context, c *txn.Client) error {
	return c.Run(ctx, latest, func(tx *txn.Tx) error {
		read := func(key string) (int64, error) {
			return amountOf(key, func(key string) ([]byte, bool, error) {
				b, there, err := tx.Get(ctx, key)
				return b[min(len(b), numberBytes):], there, err
			})
		}
		for w := range m.warehouses {
			paid, err := read(m.warehouse(w))
			if err != nil {
				return err
			}
			for d := range orderDistricts {
				ytd, err := read(m.district(w, d))
				if err != nil {
					return err
				}
				paid -= ytd
				next, err := read(m.next(w, d))
				if err != nil {
					return err
				}
				orders, err := tx.Scan(ctx, m.order(w, d, 0), m.order(w, d, 99_999_999), 0)
				if err != nil {
					return err
				}
				if n := int64(len(orders)); n != next-1 || n > 0 && orders[n-1].Key != m.order(w, d, n) {
					return fmt.Errorf("district %d of warehouse %d: %d orders, and the next is %d", d, w, n, next)
				}
			}
			if paid != 0 {
				return fmt.Errorf("warehouse %d: %d that no district was paid", w, paid)
			}
		}
		return nil
	})
}
