package artifact

import "math"

// boundLine is a line of a folder that Bind has given away: kind is -1 for the
// sample's own.
type boundLine struct {
	folder *Folder
	kind   int
}

// Bind finds the sample that a line of benchmark text came from: the first one
// of that package and name, in the order of time, whose values print as those
// given and which no earlier call has found. name is as printed, with the
// suffix for GOMAXPROCS; values are the line's own numbers by their own units,
// not the tidied ones of package benchfmt. A package of "" on either side
// matches any, for the text does not always name it.
//
// kind is nil for the sample's own line and the kind's for one of its further
// lines.
func (t *Tree) Bind(pkg, name string, values map[string]float64) (f *Folder, kind *Kind, ok bool) {
	for _, f := range t.Folders {
		if pkg != "" && f.Sample.Package != "" && pkg != f.Sample.Package {
			continue
		}
		if f.Sample.Line() == name && t.take(f, -1, f.Sample.Values, values) {
			return f, nil, true
		}
		for i := range f.Sample.Kinds {
			k := &f.Sample.Kinds[i]
			if line(k.Name, f.Sample.Procs) == name && t.take(f, i, k.Values, values) {
				return f, k, true
			}
		}
	}
	return nil, nil, false
}

func (t *Tree) take(f *Folder, kind int, values, printed map[string]float64) bool {
	l := boundLine{f, kind}
	if t.bound[l] || !agree(values, printed) {
		return false
	}
	t.bound[l] = true
	return true
}

// agree reports whether values could have been printed as those given. Units
// that one side lacks are passed over, since package testing adds some of its
// own, but one must be common to both.
func agree(values, printed map[string]float64) bool {
	common := 0
	for unit, p := range printed {
		v, ok := values[unit]
		if !ok {
			continue
		}
		common++
		// Package testing prints four digits or more, the smallest numbers to
		// seven places, and these two units cut to an integer.
		tolerance := math.Abs(p)*0.0006 + 1e-7
		if unit == "B/op" || unit == "allocs/op" {
			tolerance = 1
		}
		if math.Abs(v-p) > tolerance {
			return false
		}
	}
	return common > 0
}
