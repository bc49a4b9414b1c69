package harness_test

import (
	"os"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/load"
)

// b is the benchmark around each example, get and put are operations of the
// system that it has booted.
var (
	b   *testing.B
	get = func(*harness.Client) error { return nil }
	put = func(*harness.Client) error { return nil }
)

// Requests of many independent users come when they come: latencies count from
// there, and a system that stalls is charged for all that wait meanwhile.
func ExampleRun_openLoop() {
	harness.Run(b, harness.Spec{
		Clients:  512, // the most operations under way
		Schedule: load.Poisson(5000),
	}, put)
}

// The starts of a recorded day, one duration a line.
func ExampleRun_replay() {
	f, err := os.Open("testdata/starts.txt")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	schedule, err := load.Replay(f)
	if err != nil {
		b.Fatal(err)
	}
	harness.Run(b, harness.Spec{Clients: 512, Schedule: schedule}, put)
}

// A line for all operations, one for kind=get and one for kind=put.
func ExampleRun_mix() {
	mix, err := load.NewMix(load.Kind{Name: "get", Weight: 95}, load.Kind{Name: "put", Weight: 5})
	if err != nil {
		b.Fatal(err)
	}
	harness.Run(b, harness.Spec{Clients: 64, Mix: mix}, func(c *harness.Client) error {
		if mix.Kind(c.Kind).Name == "get" {
			return get(c)
		}
		return put(c)
	})
}

// The highest rate at which 99 of 100 operations take no longer than 10 ms.
func ExampleCapacity() {
	level := harness.SLO{Latency: 10 * time.Millisecond, Quantile: 0.99}
	harness.Capacity(b, harness.Spec{Clients: 512}, level, put)
}
