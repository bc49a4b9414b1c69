package results

import (
	"fmt"
	"strings"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// A Skip is a case that was not measured, as the harness remarked on it.
type Skip struct {
	Package string // import path; "" if nobody knows
	Name    string // without "Benchmark"
	Why     string
	File    string
	Line    int // 0: the remark does not stand in a text
}

// Of reports whether the case is that of a package and a name. A remark whose
// package nobody knows is one of all packages.
func (s Skip) Of(pkg, name string) bool {
	return s.Name == name && (s.Package == pkg || s.Package == "")
}

// String tells where the remark stands, and what it says.
func (s Skip) String() string {
	if s.Line == 0 {
		return fmt.Sprintf("skipped (%s): %s", s.File, s.Why)
	}
	return fmt.Sprintf("skipped (%s:%d): %s", s.File, s.Line, s.Why)
}

// AddMissing adds the records of samples that were not measured; from stands for
// the file of each. Whoever skips a sample both remarks on it and leaves a
// record, and the text may hold the remark or not: as many records of a case as
// it has remarks are those.
func (s *Set) AddMissing(list []artifact.Missing, from string) {
	told := make([]bool, len(s.Skips))
	for _, m := range list {
		name := strings.TrimPrefix(m.Name, "Benchmark")
		known := false
		for i := range told {
			if !told[i] && s.Skips[i].Of(m.Package, name) {
				told[i], known = true, true
				break
			}
		}
		if !known {
			s.Skips = append(s.Skips, Skip{Package: m.Package, Name: name, Why: m.Why, File: from})
		}
	}
}
