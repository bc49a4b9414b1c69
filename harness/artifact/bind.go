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
	if t.lines == nil {
		t.index()
	}
	for _, l := range t.lines[name] {
		s := &l.folder.Sample
		if pkg != "" && s.Package != "" && pkg != s.Package {
			continue
		}
		if l.kind < 0 && t.take(l, s.Values, values) {
			return l.folder, nil, true
		}
		if l.kind >= 0 && t.take(l, s.Kinds[l.kind].Values, values) {
			return l.folder, &s.Kinds[l.kind], true
		}
	}
	return nil, nil, false
}

// index notes the lines of all folders by their names. A text has as many lines
// as a tree has folders, and thousands of either are usual.
func (t *Tree) index() {
	t.lines = map[string][]boundLine{}
	for _, f := range t.Folders {
		own := f.Sample.Line()
		t.lines[own] = append(t.lines[own], boundLine{f, -1})
		for i := range f.Sample.Kinds {
			name := line(f.Sample.Kinds[i].Name, f.Sample.Procs)
			t.lines[name] = append(t.lines[name], boundLine{f, i})
		}
	}
}

func (t *Tree) take(l boundLine, values, printed map[string]float64) bool {
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
