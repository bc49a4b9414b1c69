package report

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/harness/results"
)

// module is what packages without a full path lie in.
const module = "github.com/phantomdb/phantomdb"

// unsaid are the parameters that say nothing of what is measured, or stand in a
// command by other means.
var unsaid = []string{"mode", "seed", "dir", "metrics", "profile", "strict", "list", "watchdog"}

// command is what a shell runs to measure a row again, as often as it was and
// with the parameters that somebody had set. seed is "" where nobody has told it.
func command(row *results.Row, seed string) string {
	var s strings.Builder
	if row.Mode != "" && row.Mode != "quick" {
		fmt.Fprintf(&s, "PHANTOM_MODE=%s ", quote(row.Mode))
	}
	if seed != "" {
		fmt.Fprintf(&s, "PHANTOM_SEED=%s ", quote(seed))
	}
	for _, k := range row.Samples[0].Given {
		if k.Name == "seed" && seed == "" {
			fmt.Fprintf(&s, "PHANTOM_SEED=%s ", quote(k.Value))
		}
		if !slices.Contains(unsaid, k.Name) && plainName.MatchString(k.Name) {
			fmt.Fprintf(&s, "PHANTOM_%s=%s ", strings.ReplaceAll(strings.ToUpper(k.Name), "-", "_"), quote(k.Value))
		}
	}
	fmt.Fprintf(&s, "go test -run='^$' -bench=%s", quote(pattern(row.Name)))
	if n := len(row.Samples); n > 1 {
		fmt.Fprintf(&s, " -count=%d", n)
	}
	fmt.Fprintf(&s, " -cpu=%d %s", row.Procs, quote(folder(row.Package)))
	return s.String()
}

// pattern is what -bench matches the benchmark of a name by, and no other. A
// part kind=... names a kind of operation within a run and no run of its own.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	if last := len(parts) - 1; last > 0 && strings.HasPrefix(parts[last], "kind=") {
		parts = parts[:last]
	}
	for i, part := range parts {
		if i == 0 {
			part = "Benchmark" + part
		}
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}

// folder names a package as go test takes it from the module's root.
func folder(pkg string) string {
	switch rest, ok := strings.CutPrefix(pkg, module+"/"); {
	case ok:
		return "./" + rest
	case pkg == module:
		return "."
	case pkg == "":
		return "./..."
	case strings.HasPrefix(pkg, "-"):
		return "./" + pkg // a path of a stranger's making is no flag
	}
	return pkg
}

// plainName is the name of a parameter; a stranger's text may hold others.
var plainName = regexp.MustCompile(`^[a-z][a-z-]*$`)

// plainWord is what a shell takes as it stands.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./=:,@%+-]+$`)

// quote makes one word of s for a shell. Names come from files of strangers, and
// the command is there to be pasted.
func quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
