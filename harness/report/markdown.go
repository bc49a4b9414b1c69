package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// maxMarkdown bounds the Markdown form, in bytes: the summary of a job takes one
// mebibyte and drops a longer one whole.
const maxMarkdown = 900 << 10

// WriteMarkdown writes the model for the summary of a job: verdict, notices,
// baselines, and the tables of every benchmark.
func (m *Model) WriteMarkdown(w io.Writer) error {
	var s strings.Builder
	fmt.Fprintf(&s, "## %s %s\n\n", verdictSign(m.Verdict.State), escape(m.Verdict.Sentence))
	if m.Verdict.Detail != "" {
		fmt.Fprintf(&s, "%s\n\n", escape(m.Verdict.Detail))
	}
	fmt.Fprintf(&s, "%s mode, %s, %s.\n\n", escape(strings.Join(m.Modes, ", ")), plural(m.Cases, "case"), plural(m.Samples, "sample"))
	for i, n := range m.Notices {
		if i == maxNotices {
			fmt.Fprintf(&s, "- and %d more\n", len(m.Notices)-i)
			break
		}
		fmt.Fprintf(&s, "- **%s** %s", escape(n.Kind), escape(n.Text))
		if n.Where != "" {
			fmt.Fprintf(&s, " (%s)", escape(n.Where))
		}
		s.WriteByte('\n')
	}
	if len(m.Notices) > 0 {
		s.WriteByte('\n')
	}
	m.markdownBaselines(&s)
	left := m.markdownFloors(&s)
	if left > 0 {
		fmt.Fprintf(&s, "\n%s left out here: the summary of a job holds so much and no more.\n", plural(left, "table"))
	}
	m.markdownMachines(&s)
	if _, err := io.WriteString(w, s.String()); err != nil {
		return fmt.Errorf("report: markdown: %w", err)
	}
	return nil
}

// maxNotices bounds those of the Markdown form.
const maxNotices = 50

func (m *Model) markdownBaselines(s *strings.Builder) {
	if len(m.Baselines) == 0 {
		return
	}
	s.WriteString("### Baselines\n\n| | expectation | measured | expected | unit | margin | n |\n|---|---|--:|--:|---|--:|--:|\n")
	for i := range m.Baselines {
		if s.Len() > maxMarkdown/2 {
			fmt.Fprintf(s, "\n%d more.\n", len(m.Baselines)-i)
			break
		}
		e := &m.Baselines[i]
		note := ""
		if e.Note != "" {
			note = ": " + e.Note
		}
		fmt.Fprintf(s, "| %s %s | %s%s | %s | %s | %s | %s | %d |\n", verdictSign(string(e.Verdict)), e.Verdict, escape(e.Baseline), escape(note),
			escape(e.measured()), escape(e.Expected), escape(e.Unit), e.margin(), e.Samples)
	}
	s.WriteByte('\n')
}

// markdownFloors writes the tables until there is no room, and returns how many
// were left.
func (m *Model) markdownFloors(s *strings.Builder) (left int) {
	floors, _ := shown(m.Floors, MaxCases)
	for _, f := range floors {
		fmt.Fprintf(s, "### %s\n\n", escape(f.Title))
		for i := range f.Benchmarks {
			x := &f.Benchmarks[i]
			for k, g := range grids(x) {
				var t strings.Builder
				if k == 0 {
					fmt.Fprintf(&t, "**%s** %s", escape(x.Name), escape(shortPackage(x.Package)))
					if x.Common != "" {
						fmt.Fprintf(&t, ", all with %s", escape(x.Common))
					}
					t.WriteString("\n\n")
				}
				g.markdown(&t)
				if s.Len()+t.Len() > maxMarkdown {
					left++
					continue
				}
				s.WriteString(t.String())
			}
		}
	}
	return left
}

func (g *grid) markdown(s *strings.Builder) {
	s.WriteString("| " + g.Title)
	line := "|---"
	for _, c := range g.Columns {
		s.WriteString(" | " + escape(c.Title))
		line += "|--:"
	}
	noise := len(g.Rows) > 0 && g.Rows[0].Noise != ""
	if noise {
		s.WriteString(" | noise | n")
		line += "|--:|--:"
	}
	s.WriteString(" |\n" + line + "|\n")
	for _, r := range g.Rows {
		s.WriteString("| " + escape(r.Case.Label))
		if r.Case.Invalid != "" {
			s.WriteString(" (" + escape(r.Case.Invalid) + ")")
		}
		for _, c := range r.Cells {
			text := c.String()
			if text == "" {
				text = "–"
			}
			if c.Few != "" {
				text += " (" + c.Few + ")"
			}
			s.WriteString(" | " + text)
		}
		if noise {
			fmt.Fprintf(s, " | %s | %d", r.Noise, r.Case.Samples)
		}
		s.WriteString(" |\n")
	}
	s.WriteByte('\n')
}

func (m *Model) markdownMachines(s *strings.Builder) {
	s.WriteString("### Machine\n\n")
	for _, x := range m.Machines {
		fmt.Fprintf(s, "- %s, %s/%s, data on %s", escape(x.CPU), escape(x.OS), escape(x.Arch), escape(x.FileSystem))
		for _, f := range x.Facts {
			fmt.Fprintf(s, "; %s %s", escape(f.Name), escape(f.Value))
		}
		s.WriteByte('\n')
	}
	fmt.Fprintf(s, "\n%s\n\n%s\n", escape(m.Noise), escape(m.Evidence))
}

// escaper keeps what files of strangers say from being read as Markdown, HTML or
// a mention of somebody.
var escaper = strings.NewReplacer("\\", "\\\\", "|", "\\|", "<", "&lt;", ">", "&gt;", "&", "&amp;", "`", "\\`", "*", "\\*", "_", "\\_",
	"[", "\\[", "]", "\\]", "@", "&#64;", "\n", " ", "\r", " ")

func escape(s string) string { return escaper.Replace(s) }

// WriteJSON writes the whole model.
func (m *Model) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	if err := e.Encode(m); err != nil {
		return fmt.Errorf("report: json: %w", err)
	}
	return nil
}
