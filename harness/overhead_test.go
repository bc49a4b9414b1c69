package harness

import (
	"testing"

	"github.com/phantomdb/phantomdb/harness/load"
)

// BenchmarkOverhead asks what a closed loop costs an operation that does
// nothing: two clock readings, the books and the permits.
//
//	go test -run='^$' -bench=Overhead ./harness
func BenchmarkOverhead(b *testing.B) {
	for _, clients := range Axis("clients", Points([]int{1, 64}, []int{1, 2, 64, 256})...) {
		b.Run(Name("clients", clients), func(b *testing.B) {
			Run(b, Spec{Clients: clients}, func(*Client) error { return nil })
		})
	}
}

// BenchmarkOpenOverhead asks what an open loop costs an operation that does
// nothing: three clock readings, the books and the way from the generator to a
// client. All of them are overdue, so that nobody waits for the next.
//
//	go test -run='^$' -bench=OpenOverhead ./harness
func BenchmarkOpenOverhead(b *testing.B) {
	for _, clients := range Axis("clients", Points([]int{64}, []int{2, 64})...) {
		b.Run(Name("clients", clients), func(b *testing.B) {
			s := Spec{Clients: clients, Schedule: load.Constant(1e7), Overload: true}
			Run(b, s, func(*Client) error { return nil })
		})
	}
}

// BenchmarkMicro asks what an operation that does nothing costs under Micro.
//
//	go test -run='^$' -bench=Micro ./harness
func BenchmarkMicro(b *testing.B) {
	Micro(b, func() error { return nil })
}

// BenchmarkPermit asks what an operation that does nothing costs when each needs
// a permit of its own, the most expensive case, which comes up near the end of a
// run and for slow operations throughout.
//
//	go test -run='^$' -bench=Permit ./harness
func BenchmarkPermit(b *testing.B) {
	for _, clients := range Axis("clients", Points([]int{64}, []int{2, 64, 256})...) {
		b.Run(Name("clients", clients), func(b *testing.B) {
			s := Spec{Clients: clients}
			if err := s.validate(); err != nil {
				b.Fatal(err)
			}
			Begin(b)
			b.ReportAllocs()
			crew := newCrew(b.Context(), s, func(*Client) error { return nil })
			defer crew.dismiss()
			crew.share(&stint{clients: clients, next: b.Loop})
		})
	}
}

// BenchmarkOverheadWatched asks what Overhead asks of a run that is cut into
// intervals, as it is under -artifacts and PHANTOM_METRICS.
//
//	go test -run='^$' -bench=Overhead ./harness
func BenchmarkOverheadWatched(b *testing.B) {
	keeping(b, &ledger{})
	for _, clients := range Axis("clients", Points([]int{1}, []int{1, 256})...) {
		b.Run(Name("clients", clients), func(b *testing.B) {
			Run(b, Spec{Clients: clients}, func(*Client) error { return nil })
		})
	}
}
