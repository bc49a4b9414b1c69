package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// benchmark finds or makes the place of a row.
func (b *builder) benchmark(r row) *Benchmark {
	name := floorOf(r.Package)
	i := slices.IndexFunc(b.model.Floors, func(f Floor) bool { return f.Name == name })
	if i < 0 {
		i = len(b.model.Floors)
		b.model.Floors = append(b.model.Floors, Floor{Name: name, Title: floorTitle(name)})
	}
	floor := &b.model.Floors[i]
	base, _, _ := strings.Cut(r.Name, "/")
	k := slices.IndexFunc(floor.Benchmarks, func(x Benchmark) bool { return x.Package == r.Package && x.Name == base })
	if k < 0 {
		k = len(floor.Benchmarks)
		floor.Benchmarks = append(floor.Benchmarks, Benchmark{Package: r.Package, Name: base})
	}
	return &floor.Benchmarks[k]
}

// floorNames are the subsystems from the ground up, with what stands above them.
var floorNames = []struct{ name, title string }{
	{"consensus", "Consensus"}, {"cluster", "Cluster"}, {"txn", "Transactions"}, {"query", "Queries"},
	{"phantomdb", "The whole"}, {"harness", "The harness itself"},
}

// floorOf is the subsystem of a package: the first element of its path within
// the module, or the whole path of one from elsewhere.
func floorOf(pkg string) string {
	if pkg == module {
		return "phantomdb"
	}
	rest, ok := strings.CutPrefix(pkg, module+"/")
	if !ok {
		return cmp.Or(pkg, "unknown package")
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func floorTitle(name string) string {
	for _, f := range floorNames {
		if f.name == name {
			return f.title
		}
	}
	return name
}

// sortFloors puts the subsystems in their order, strangers last, and finds out
// what the cases of a benchmark have in common.
func (b *builder) sortFloors() {
	place := func(name string) int {
		i := slices.IndexFunc(floorNames, func(f struct{ name, title string }) bool { return f.name == name })
		if i < 0 {
			return len(floorNames)
		}
		return i
	}
	slices.SortStableFunc(b.model.Floors, func(x, y Floor) int { return place(x.Name) - place(y.Name) })
	for i := range b.model.Floors {
		for k := range b.model.Floors[i].Benchmarks {
			label(&b.model.Floors[i].Benchmarks[k], len(b.machines) > 1)
		}
	}
}

// label gives each case the parts of its name that not all of its neighbours
// have, and the benchmark those that all have.
func label(x *Benchmark, machines bool) {
	parts := func(c Case) []string { return strings.Split(c.Name, "/")[1:] }
	common := slices.Clone(parts(x.Cases[0]))
	procs, modes := false, false
	for _, c := range x.Cases {
		common = slices.DeleteFunc(common, func(p string) bool { return !slices.Contains(parts(c), p) })
		procs = procs || c.Processors != x.Cases[0].Processors
		modes = modes || c.Mode != x.Cases[0].Mode
	}
	if len(x.Cases) == 1 {
		common = nil
	}
	x.Common = strings.Join(common, " ")
	for i := range x.Cases {
		c := &x.Cases[i]
		var own []string
		for _, p := range parts(*c) {
			if !slices.Contains(common, p) {
				own = append(own, p)
			}
		}
		if procs {
			own = append(own, fmt.Sprintf("cpu=%d", c.Processors))
		}
		if modes {
			own = append(own, "mode="+c.Mode)
		}
		if machines {
			own = append(own, fmt.Sprintf("machine=%d", c.Machine+1))
		}
		c.Label = cmp.Or(strings.Join(own, " "), x.Name)
	}
}
