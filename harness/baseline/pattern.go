package baseline

import (
	"regexp"
	"slices"
	"strings"
)

// Pattern returns what go test's -bench chooses the benchmarks of the entries
// by, and their packages.
func Pattern(entries []*Entry) (bench string, packages []string) {
	var alternatives []string
	for _, e := range entries {
		var elements []string
		for i, part := range strings.Split(e.Bench, "/") {
			if i == 0 {
				part = "Benchmark" + part
			}
			// A key whose value is * stands for all of its values.
			if key, open := strings.CutSuffix(part, "=*"); open {
				elements = append(elements, "^"+regexp.QuoteMeta(key)+"=")
			} else {
				elements = append(elements, "^"+regexp.QuoteMeta(part)+"$")
			}
		}
		alternatives = append(alternatives, strings.Join(elements, "/"))
		packages = append(packages, e.Package)
	}
	slices.Sort(alternatives)
	slices.Sort(packages)
	return strings.Join(slices.Compact(alternatives), "|"), slices.Compact(packages)
}
