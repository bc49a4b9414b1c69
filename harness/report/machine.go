package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// machineFacts adds what the artifacts know of the machines.
func (b *builder) machineFacts() {
	if b.in.Artifacts == nil {
		return
	}
	list := make([]artifact.Environment, 0, len(b.in.Artifacts.Environments))
	for _, e := range b.in.Artifacts.Environments {
		list = append(list, e)
	}
	slices.SortFunc(list, func(x, y artifact.Environment) int { return cmp.Or(x.Start.Compare(y.Start), cmp.Compare(x.ID, y.ID)) })
	for i := range b.model.Machines {
		m := &b.model.Machines[i]
		mine := slices.DeleteFunc(slices.Clone(list), func(e artifact.Environment) bool {
			return e.OS != m.OS || e.Arch != m.Arch || e.CPU != m.CPU || e.FileSystem != "" && e.FileSystem != m.FileSystem
		})
		if len(mine) > 0 {
			m.Facts = facts(mine)
		}
	}
}

// facts describes the processes of one machine; what differs among them is a
// range.
func facts(list []artifact.Environment) []Fact {
	var out []Fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, Fact{name, value})
		}
	}
	add("Logical processors", texts(list, func(e artifact.Environment) string { return fmt.Sprint(e.Cores) }))
	add("GOMAXPROCS", texts(list, func(e artifact.Environment) string { return fmt.Sprint(e.Procs) }))
	add("Memory", span(list, "B", func(e artifact.Environment) (float64, bool) { return float64(e.Memory), e.Memory > 0 }))
	add("Kernel", texts(list, func(e artifact.Environment) string { return e.Kernel }))
	add("Virtual machine", texts(list, func(e artifact.Environment) string { return e.Virtualization }))
	add("Go", texts(list, func(e artifact.Environment) string { return e.Go }))
	probe := func(of func(artifact.Environment) *artifact.Probe) string {
		return span(list, "ns", func(e artifact.Environment) (float64, bool) {
			if p := of(e); p != nil {
				return float64(p.P50), true
			}
			return 0, false
		})
	}
	add("fsync, 4 KiB in place, p50", probe(func(e artifact.Environment) *artifact.Probe {
		if e.Disk == nil {
			return nil
		}
		return e.Disk.Fsync
	}))
	add("fdatasync, 4 KiB in place, p50", probe(func(e artifact.Environment) *artifact.Probe {
		if e.Disk == nil {
			return nil
		}
		return e.Disk.Fdatasync
	}))
	add("Loopback round trip, p50", probe(func(e artifact.Environment) *artifact.Probe { return e.Loopback }))
	add("Load average at the start", span(list, "1", func(e artifact.Environment) (float64, bool) {
		if len(e.Load) == 0 {
			return 0, false
		}
		return e.Load[0], true
	}))
	return out
}

// texts lists the different values that processes have.
func texts(list []artifact.Environment, of func(artifact.Environment) string) string {
	var all []string
	for _, e := range list {
		if v := of(e); v != "" && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return strings.Join(all, ", ")
}

// span is a number, or the smallest and the largest of several.
func span(list []artifact.Environment, unit string, of func(artifact.Environment) (float64, bool)) string {
	low, high := math.Inf(1), math.Inf(-1)
	for _, e := range list {
		if v, ok := of(e); ok {
			low, high = min(low, v), max(high, v)
		}
	}
	switch {
	case low > high:
		return ""
	case number(low, unit) == number(high, unit):
		return number(low, unit).String()
	}
	return number(low, unit).String() + " to " + number(high, unit).String()
}
