package harness

import (
	"bufio"
	"io"
	"math"
	"strconv"
	"strings"
)

// An exposition writes metrics in the text format of Prometheus, version 0.0.4.
type exposition struct{ out *bufio.Writer }

func newExposition(w io.Writer) exposition { return exposition{bufio.NewWriter(w)} }

type label struct{ name, value string }

type labels []label

// A sample is one value of a metric. The labels of a summary's sum and count
// carry a mark that is no label, see sum and count.
type sample struct {
	labels labels
	value  float64
}

// suffixMark is the name of a pseudo-label whose value is put behind the name
// of the metric. It cannot be the name of a label.
const suffixMark = "\x00"

func (l labels) sum() labels   { return append(labels{{suffixMark, "_sum"}}, l...) }
func (l labels) count() labels { return append(labels{{suffixMark, "_count"}}, l...) }

var escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// metric writes one metric with its samples. Errors stay in the writer.
func (e exposition) metric(name, kind, help string, samples ...sample) {
	// A comment must not contain a line break; a backslash begins an escape.
	help = strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)
	e.write("# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n")
	for _, s := range samples {
		suffix, rest := "", s.labels
		if len(rest) > 0 && rest[0].name == suffixMark {
			suffix, rest = rest[0].value, rest[1:]
		}
		e.write(name, suffix)
		for i, l := range rest {
			open := ","
			if i == 0 {
				open = "{"
			}
			e.write(open, l.name, `="`, escapeLabel.Replace(strings.ToValidUTF8(l.value, "?")), `"`)
		}
		if len(rest) > 0 {
			e.write("}")
		}
		e.write(" ", formatSample(s.value), "\n")
	}
}

func (e exposition) write(parts ...string) {
	for _, p := range parts {
		_, _ = e.out.WriteString(p)
	}
}

// formatSample writes a number as the format spells it.
func formatSample(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
