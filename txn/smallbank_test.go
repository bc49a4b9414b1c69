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

// A smallBank is the workload of Alomari, Cahill, Fekete and Röhm, "The Cost of
// Serializability on Platforms That Use Snapshot Isolation", ICDE 2008, with the weights
// of BenchBase. Customers have a savings and a checking account each, in one shard; the
// shards take customers in turn, so that two are in different ones as a rule. A quarter
// of all customers drawn are of the first hundred.
type smallBank struct {
	w         *bench
	customers int
	draw      load.HotSpot
}

// What the customers begin with, and how many of the first are drawn more often.
const (
	bankOpening = 10_000
	bankHot     = 100
	bankShare   = 0.25
)

// bankKinds are the transactions of the bank with their weights.
var bankKinds = []load.Kind{
	{Name: "amalgamate", Weight: 15}, {Name: "balance", Weight: 15}, {Name: "deposit", Weight: 15},
	{Name: "send", Weight: 25}, {Name: "savings", Weight: 15}, {Name: "check", Weight: 15},
}

func newSmallBank(w *bench, customers int) (*smallBank, error) {
	draw, err := load.NewHotSpot(uint64(customers), bankHot, bankShare)
	return &smallBank{w, customers, draw}, err
}

func (m *smallBank) savings(c int) string  { return m.w.key(c%len(m.w.ids), c) + "/savings" }
func (m *smallBank) checking(c int) string { return m.w.key(c%len(m.w.ids), c) + "/checking" }

// fill opens the accounts of one shard.
func (m *smallBank) fill(s *session, shard int) error {
	for c := shard; c < m.customers; c += len(m.w.ids) {
		if err := errors.Join(s.put(m.savings(c), amount(bankOpening)), s.put(m.checking(c), amount(bankOpening))); err != nil {
			return err
		}
	}
	return nil
}

// errUnfunded is why a client gives a transaction up, as it should.
var errUnfunded = errors.New("not enough money")

// one does one transaction of a kind.
func (m *smallBank) one(k *worker, kind string) error {
	a, b := m.two(k.rand)
	v := int64(1 + k.rand.IntN(100))
	brings := int64(0) // by the last try
	err := k.run(txn.TxOptions{ReadOnly: kind == "balance"}, func(s *session) error {
		var err error
		switch kind {
		case "amalgamate":
			err = m.amalgamate(s, a, b)
		case "balance":
			_, err = m.total(s, a)
		case "deposit":
			brings, err = v, s.add(m.checking(a), v, false)
		case "send":
			if err = s.add(m.checking(a), -v, true); err == nil {
				err = s.add(m.checking(b), v, false)
			}
		case "savings":
			brings, err = v, s.add(m.savings(a), v, true)
		case "check":
			brings, err = m.check(s, a, v)
		default:
			err = fmt.Errorf("no such transaction: %s", kind)
		}
		return err
	})
	switch {
	case errors.Is(err, errUnfunded):
		return nil
	case err == nil:
		k.money += brings
	}
	return err
}

// two draws two customers.
func (m *smallBank) two(r *rand.Rand) (a, b int) {
	a, b = int(m.draw.Key(r)), int(m.draw.Key(r))
	for b == a {
		b = int(m.draw.Key(r))
	}
	return a, b
}

// amalgamate moves all that one customer has to the checking account of another.
func (m *smallBank) amalgamate(s *session, from, to int) error {
	sum := int64(0)
	for _, key := range []string{m.savings(from), m.checking(from)} {
		v, err := s.amount(key)
		if err == nil {
			err = s.put(key, amount(0))
		}
		if err != nil {
			return err
		}
		sum += v
	}
	return s.add(m.checking(to), sum, false)
}

// total reads what a customer has.
func (m *smallBank) total(s *session, c int) (int64, error) {
	x, err := s.amount(m.savings(c))
	if err != nil {
		return 0, err
	}
	y, err := s.amount(m.checking(c))
	return x + y, err
}

// check cashes a check, with a penalty of 1 if it is not covered.
func (m *smallBank) check(s *session, c int, v int64) (brings int64, err error) {
	has, err := m.total(s, c)
	if err != nil {
		return 0, err
	}
	if has < v {
		v++
	}
	return -v, s.add(m.checking(c), -v, false)
}

// sum is what all customers have, read at once.
func (m *smallBank) sum(ctx context.Context, c *txn.Client) (sum int64, err error) {
	err = c.Run(ctx, latest, func(tx *txn.Tx) error {
		sum = 0
		accounts := 0
		rows, err := tx.Scan(ctx, "", "", 0)
		for _, r := range rows {
			if strings.HasSuffix(r.Key, "/savings") || strings.HasSuffix(r.Key, "/checking") {
				sum += int64(binary.BigEndian.Uint64(r.Value[numberBytes:]))
				accounts++
			}
		}
		if err == nil && accounts != 2*m.customers {
			err = fmt.Errorf("%d accounts of %d customers", accounts, m.customers)
		}
		return err
	})
	return sum, err
}

// amount is an amount of money as a row.
func amount(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }

// amount reads one.
func (s *session) amount(key string) (int64, error) { return amountOf(key, s.get) }

// lockedAmount reads one that many are going to change.
func (s *session) lockedAmount(key string) (int64, error) { return amountOf(key, s.lock) }

func amountOf(key string, get func(string) ([]byte, bool, error)) (int64, error) {
	b, there, err := get(key)
	if err != nil {
		return 0, err
	}
	if !there || len(b) != 8 {
		return 0, fmt.Errorf("row %q: %d bytes, expected an amount", key, len(b))
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// add changes an amount. With funded it must not fall below zero by that.
func (s *session) add(key string, v int64, funded bool) error {
	has, err := s.amount(key)
	if err != nil {
		return err
	}
	if funded && has+v < 0 {
		return errUnfunded
	}
	return s.put(key, amount(has+v))
}
