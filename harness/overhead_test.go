package harness

import (
	"testing"
)

// BenchmarkOverhead asks what a closed loop costs an operation that does
// nothing: two clock readings, the books and the permits.
//
//	go test -run='^$' -bench=Overhead ./harness
func BenchmarkOverhead(b *testing.B) {
	for _, clients := range Axis("clients", 1, 2, 64, 256) {
		b.Run(Name("clients", clients), func(b *testing.B) {
			Run(b, Spec{Clients: clients}, func(*Client) error { return nil })
		})
	}
}

// BenchmarkMicro asks what an operation that does nothing costs under Micro.
//
//	go test -run='^$' -bench=Micro ./harness
func BenchmarkMicro(b *testing.B) {
	Micro(b, func() error { return nil })
}
