package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// A table is text in columns. A cell may be painted; its width is that of the
// text alone.
type table struct {
	head  []string
	right []bool // whether a column ends, rather than begins, at its edge
	rows  [][]cell
}

type cell struct {
	text  string
	paint paint
}

func (t *table) add(row ...cell) { t.rows = append(t.rows, row) }

func (t *table) write(c *console, w io.Writer) {
	width := make([]int, len(t.head))
	for i, h := range t.head {
		width[i] = utf8.RuneCountInString(h)
	}
	for _, row := range t.rows {
		for i, x := range row {
			width[i] = max(width[i], utf8.RuneCountInString(x.text))
		}
	}
	head := make([]cell, len(t.head))
	for i, h := range t.head {
		head[i] = cell{h, dim}
	}
	for _, row := range append([][]cell{head}, t.rows...) {
		var line strings.Builder
		for i, x := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(x.text))
			switch text := c.paint(x.paint, x.text); {
			case t.right[i]:
				line.WriteString(pad + text)
			case i == len(row)-1:
				line.WriteString(text)
			default:
				line.WriteString(text + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// human prints a value of a unit for people: four digits, three for times, in the
// unit of time that fits.
func human(v float64, unit string) string {
	switch {
	case math.IsInf(v, 0) || math.IsNaN(v):
		return "?"
	case strings.HasSuffix(unit, "-ns"), strings.HasPrefix(unit, "ns/"), strings.Contains(unit, "-ns/"):
		return humanTime(v)
	case math.Abs(v) >= 1e6:
		return fmt.Sprintf("%.4g M", v/1e6)
	case math.Abs(v) >= 1e4:
		return fmt.Sprintf("%.4g k", v/1e3)
	case math.Abs(v) >= 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

func humanTime(ns float64) string {
	for _, u := range []struct {
		size time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}} {
		if math.Abs(ns) >= float64(u.size) {
			return fmt.Sprintf("%.3g %s", ns/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%.3g ns", ns)
}
