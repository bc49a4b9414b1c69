package report

import (
	_ "embed" // the page and its parts
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"sync"

	"github.com/phantomdb/phantomdb/harness/baseline"
)

// MaxCases is the number of cases that the page and the Markdown show. The JSON
// form holds all.
const MaxCases = 3000

var (
	//go:embed page/page.html
	pageText string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
	// uPlot 1.6.32 as its package in the npm registry has it (dist/), with its
	// licence (MIT) beside it and in every page.
	//go:embed page/uplot/uPlot.iife.min.js
	uplotJS string
	//go:embed page/uplot/uPlot.min.css
	uplotCSS string
	//go:embed page/uplot/LICENSE
	uplotLicense string
)

// page parses the template once, when the first page is written.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"sign": verdictSign, "title": title,
		"number":   number,
		"grids":    grids,
		"plain":    func(n Number) string { return n.String() },
		"date":     func(m *Model) string { return m.Made.Format("2 January 2006, 15:04 UTC") },
		"join":     strings.Join,
		"short":    shortPackage,
		"cut":      func(s string, n int) string { return s[:min(n, len(s))] },
		"bar":      marginBar,
		"meter":    meterCell,
		"plural":   plural,
		"interval": func(e Expectation) string { return e.interval() },
		"margin":   func(e Expectation) string { return e.margin() },
		"span":     Quantity.span,
		"inc":      func(i int) int { return i + 1 },
	}).Parse(pageText))
})

// pageView is what the template sees.
type pageView struct {
	*Model
	CSS, UplotCSS        template.CSS
	JS, UplotJS, License template.JS
	Data                 map[string]*Evidence
	Overlays             map[string][]overlay
	Shown, LeftOut       int
}

// An overlay is a case whose percentile curve is drawn beside those of its
// neighbours.
type overlay struct {
	Case string `json:"case"`
	Name string `json:"name"`
}

// WriteHTML writes the model as one page that needs no network.
func (m *Model) WriteHTML(w io.Writer) error {
	v := &pageView{
		Model: m, CSS: template.CSS(pageCSS), UplotCSS: template.CSS(uplotCSS), JS: template.JS(pageJS), UplotJS: template.JS(uplotJS),
		License: template.JS("/*\nuPlot 1.6.32\n\n" + uplotLicense + "*/"), Data: map[string]*Evidence{}, Overlays: map[string][]overlay{},
	}
	short := *m
	short.Floors, v.Shown = shown(m.Floors, MaxCases)
	v.Model, v.LeftOut = &short, m.Cases-v.Shown
	for fi, f := range short.Floors {
		for bi, x := range f.Benchmarks {
			for _, c := range x.Cases {
				if c.Evidence == nil {
					continue
				}
				v.Data[c.ID] = c.Evidence
				key := fmt.Sprintf("o%d-%d", fi, bi)
				if c.Evidence.Curve != nil && len(v.Overlays[key]) < maxOverlay {
					v.Overlays[key] = append(v.Overlays[key], overlay{c.ID, c.Label})
				}
			}
		}
	}
	if err := page().Execute(w, v); err != nil {
		return fmt.Errorf("report: html: %w", err)
	}
	return nil
}

// maxOverlay is the number of curves that a chart can hold and still be read:
// as many as there are colours that everybody tells apart.
const maxOverlay = 6

// shown returns the floors with at most limit cases, and how many these are.
func shown(floors []Floor, limit int) (list []Floor, n int) {
	for _, f := range floors {
		kept := Floor{Name: f.Name, Title: f.Title}
		for _, x := range f.Benchmarks {
			if x.Cases = x.Cases[:min(len(x.Cases), limit-n)]; len(x.Cases) > 0 {
				n += len(x.Cases)
				kept.Benchmarks = append(kept.Benchmarks, x)
			}
		}
		if len(kept.Benchmarks) > 0 {
			list = append(list, kept)
		}
	}
	return list, n
}

// shortPackage is a package as people of this module call it.
func shortPackage(pkg string) string {
	return strings.TrimPrefix(strings.TrimPrefix(pkg, module+"/"), module)
}

// A bar is a margin drawn from the limit in the middle: to the right the
// expectation is kept, to the left it is missed.
type bar struct {
	Left, Width float64 // percent
	Kept, Over  bool    // Over: longer than there is room
}

func marginBar(e Expectation) *bar {
	if e.Margin == nil {
		return nil
	}
	if e.Kind == baseline.Band && *e.Margin == 0 && e.Verdict == baseline.Pass {
		return nil // a band without width is kept or not
	}
	share := math.Max(-1, math.Min(1, *e.Margin))
	b := &bar{Kept: *e.Margin >= 0, Over: math.Abs(*e.Margin) > 1, Left: 50, Width: math.Round(500*math.Abs(share)) / 10}
	if !b.Kept {
		b.Left = 50 - b.Width
	}
	return b
}

// meterCell prints a number of a meter that may be absent.
func meterCell(v *float64, unit string) Number {
	if v == nil {
		return Number{"–", ""}
	}
	return number(*v, unit)
}
