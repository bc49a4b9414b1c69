package raftlog

import pb "go.etcd.io/raft/v3/raftpb"

// An elem says where an entry lies.
type elem struct {
	term uint64
	// sum is the encoded bytes of all entries of the group up to and
	// including this one, counted from some beginning: differences matter.
	sum uint64
	at  position
	// entry is the entry itself while the cache has it. Invariant: it is set
	// until the entry is written out.
	entry *pb.Entry
}

// IndexBytes bounds the memory that a live entry takes besides the cache, in
// bytes: an element of a ring of which more than a quarter is in use.
const IndexBytes = 128

// A ring holds the elems of consecutive indexes. The zero ring is empty and
// takes no memory, which is what most of many thousand idle groups have.
type ring struct {
	buf   []elem // length is zero or a power of two
	head  int    // of the lowest index
	n     int
	first uint64 // the lowest index, or the next one if there is none
}

const minRing = 4

func (r *ring) at(i uint64) *elem {
	return &r.buf[(r.head+int(i-r.first))&(len(r.buf)-1)]
}

// end is one above the highest index.
func (r *ring) end() uint64 { return r.first + uint64(r.n) }

func (r *ring) push(e elem) {
	if r.n == len(r.buf) {
		r.resize(max(minRing, 2*r.n))
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = e
	r.n++
}

// unshift puts n empty elems before the first.
func (r *ring) unshift(n int) {
	size := max(minRing, len(r.buf))
	for size < r.n+n {
		size *= 2
	}
	if size != len(r.buf) {
		r.resize(size)
	}
	r.head = (r.head - n) & (len(r.buf) - 1)
	r.n += n
	r.first -= uint64(n)
}

// dropFront removes the n lowest.
func (r *ring) dropFront(n int) {
	for i := range n {
		r.buf[(r.head+i)&(len(r.buf)-1)] = elem{}
	}
	if len(r.buf) > 0 {
		r.head = (r.head + n) & (len(r.buf) - 1)
	}
	r.n -= n
	r.first += uint64(n)
	r.shrink()
}

// dropBack removes the n highest.
func (r *ring) dropBack(n int) {
	for i := r.n - n; i < r.n; i++ {
		r.buf[(r.head+i)&(len(r.buf)-1)] = elem{}
	}
	r.n -= n
	r.shrink()
}

// shrink gives memory back once three quarters stand empty.
func (r *ring) shrink() {
	size := len(r.buf)
	for size > 64 && r.n*4 <= size {
		size /= 2
	}
	if size != len(r.buf) {
		r.resize(size)
	}
}

func (r *ring) resize(size int) {
	buf := make([]elem, size)
	for i := range r.n {
		buf[i] = r.buf[(r.head+i)&(len(r.buf)-1)]
	}
	r.buf, r.head = buf, 0
}
