package harness

import (
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// A part is a run of package testing over benchmarks of one length.
type part struct {
	benchtime string   // "" leaves -benchtime as it is
	others    []string // top-level benchmarks that belong to other parts
}

// parts divides the benchmarks by how long the mode wants their cases to last,
// in the order of the classes. Package testing knows one -benchtime for all, so
// each part is a run of its own. With a length from the user, or where all
// classes agree, there is one part.
func (p *params) parts(benchmarks []string, benchtimeGiven bool) []part {
	if benchtimeGiven {
		return []part{{}}
	}
	var lengths []string
	members := map[string][]string{}
	for c := range classes {
		for _, name := range benchmarks {
			if classOf(name) != c {
				continue
			}
			l := p.length(c)
			if members[l] == nil {
				lengths = append(lengths, l)
			}
			members[l] = append(members[l], name)
		}
	}
	if len(lengths) == 0 {
		return []part{{benchtime: p.length(classOther)}}
	}
	var list []part
	for _, l := range lengths {
		one := part{benchtime: l}
		for _, other := range lengths {
			if other != l {
				one.others = append(one.others, members[other]...)
			}
		}
		list = append(list, one)
	}
	return list
}

// runParts runs the tests once and the benchmarks part by part, and returns the
// first status that is not zero. Between the parts it changes flags of package
// testing, which reads them anew at every Run.
func runParts(m *testing.M, list []part) (code int, err error) {
	skip, cpu := flagText("test.skip"), flagText("test.cpu")
	cpuFlag.Store(&cpu)
	for i, one := range list {
		if one.benchtime != "" {
			err = setFlag("test.benchtime", one.benchtime)
		}
		if settings().list {
			// A benchmark that does not end in Begin shall end soon.
			listedLength = flagText("test.benchtime")
			err = firstError(err, setFlag("test.benchtime", "1x"), setFlag("test.count", "1"))
		}
		if len(list) > 1 && err == nil {
			err = setFlag("test.skip", skipAlso(skip, one.others))
		}
		if i > 0 && err == nil {
			// The tests have run, and the list of processor counts, which
			// every Run would extend, has been read.
			err = firstError(setFlag("test.run", "^$"), setFlag("test.cpu", ""))
		}
		if err != nil {
			return 2, err
		}
		if status := m.Run(); code == 0 {
			code = status
		}
		tail.print(os.Stdout, os.Stderr)
	}
	return code, nil
}

func setFlag(name, value string) error {
	if err := flag.Set(name, value); err != nil {
		return fmt.Errorf("harness: %s %q: %w", name, value, err)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// skipAlso adds top-level names to a pattern of -skip. Alternatives there are
// divided by bars at the top level only.
func skipAlso(pattern string, names []string) string {
	if len(names) == 0 {
		return pattern
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	ours := "^(" + strings.Join(quoted, "|") + ")$"
	if pattern == "" {
		return ours
	}
	return pattern + "|" + ours
}

// profiles are the flags whose files package testing writes after its first
// Run, and which a second one would overwrite with nothing.
var profiles = []string{"cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace", "coverprofile"}

// refuseProfiles returns an error if a profile was asked for that would cover
// the first of several parts only.
func refuseProfiles(list []part) error {
	if len(list) < 2 {
		return nil
	}
	for _, name := range profiles {
		if flagText("test."+name) != "" {
			return fmt.Errorf("harness: -%s would cover the first of %d parts of this run: "+
				"want a -benchtime, or a -bench that chooses cases of one length (%s)", name, len(list), lengthsOf(list))
		}
	}
	return nil
}

func lengthsOf(list []part) string {
	var s []string
	for _, one := range list {
		s = append(s, one.benchtime)
	}
	return strings.Join(s, ", ")
}

// chosenBenchmarks returns the top-level benchmarks of a test binary that
// -bench may choose cases of. It looks into a field that the standard library
// does not promise; without it, ok is false.
func chosenBenchmarks(m *testing.M, pattern string) (names []string, ok bool) {
	f := reflect.ValueOf(m).Elem().FieldByName("benchmarks")
	if !f.IsValid() || f.Kind() != reflect.Slice {
		return nil, false
	}
	for i := range f.Len() {
		name := f.Index(i).FieldByName("Name")
		if !name.IsValid() || name.Kind() != reflect.String {
			return nil, false
		}
		if mayChoose(pattern, name.String()) {
			names = append(names, name.String())
		}
	}
	return names, true
}

// mayChoose reports whether a pattern of -bench may choose cases of a top-level
// benchmark. It is generous: a part without cases is harmless, a case without
// a part would be lost. So only the first element of a plain pattern counts.
func mayChoose(pattern, name string) bool {
	first, _, _ := strings.Cut(pattern, "/")
	if strings.ContainsAny(pattern, "|[(") && strings.Contains(pattern, "/") {
		return true
	}
	re, err := regexp.Compile(first)
	return err != nil || re.MatchString(name)
}

// listPrefix begins the lines on standard error that name the cases of a run
// with PHANTOM_LIST=1, in the order in which they would run. Behind the name
// stands how long the case would last, in the words of -benchtime.
const listPrefix = "# case "

// listedLength is the length of the part that is being listed. It belongs to
// the goroutine of Main until the benchmarks run, and does not change then.
var listedLength string

// Begin tells that b is about to boot its system: from here on the watchdog
// watches, and a run that only lists its cases ends this one. Run, Events,
// Micro, Dir and DurableDir do it too; a benchmark whose boot takes its time
// calls it first. Calling it twice does no harm. A name that ends in a hyphen and
// digits fails b: on one processor nobody could tell it from another.
func Begin(b *testing.B) {
	b.Helper()
	if endsLikeProcs(b.Name()) {
		b.Fatalf("harness: %s: want a name that does not end in a hyphen and digits, which stand for processors", b.Name())
	}
	if settings().list {
		fmt.Fprintf(os.Stderr, "%s%s %s\n", listPrefix, b.Name(), listedLength)
		b.SkipNow()
	}
	useProcs(b)
	touch(b)
}

// announceParts says how long cases last where a mode has several lengths.
func announceParts(out io.Writer, list []part) {
	if len(list) > 1 {
		fmt.Fprintf(out, "# harness: %d parts of benchmarks, lasting %s\n", len(list), lengthsOf(list))
	}
}
