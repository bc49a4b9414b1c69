package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/report"
	"github.com/phantomdb/phantomdb/harness/results"
)

func reportCommand() *command {
	return &command{
		name: "report", usage: "RESULTS... [flags]", run: makeReport,
		summary: "make a page, a summary or JSON of results",
		help: `Report makes one HTML file of benchmark text: the verdict first, then every
subsystem with throughput, latency and cost, the machine, and for each number
the command that measures it again. The file needs no network. With the
artifacts of the same run it shows how latency and resources went over time.

Examples:

  go tool phantom run --mode standard --count 6 --out results.txt --artifacts artifacts
  go tool phantom report results.txt --artifacts artifacts
  go tool phantom report results.txt -o night.html --markdown summary.md
  go tool phantom report results.txt --json - | jq .verdict

Without -o, --markdown or --json it writes report.html. A file is written whole
or not at all. Results of several machines are shown apart and get no verdict.

Exit status: 0 if the report is written, whatever it says (check fails where an
expectation is missed); 2 if the input cannot be relied on, and nothing is
written then.
`,
	}
}

// A reportSpec is what the user asked for.
type reportSpec struct {
	html, markdown, json, artifacts, baselines string
	files                                      []string
}

func makeReport(_ context.Context, c *console, self *command, args []string) int {
	s := &reportSpec{}
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	fs.StringVar(&s.html, "o", "", "`file` for the page, - for standard output; default: report.html")
	fs.StringVar(&s.markdown, "markdown", "", "`file` for the summary in Markdown, - for standard output")
	fs.StringVar(&s.json, "json", "", "`file` for all of it as JSON, - for standard output")
	fs.StringVar(&s.artifacts, "artifacts", "", "`folder` of what run --artifacts or go test -artifacts left")
	fs.StringVar(&s.baselines, "baselines", "", "`file or folder` of baselines; default: testdata/baselines of the module, if there is one")
	var err error
	if s.files, err = self.parse(c, fs, args); err != nil {
		return statusOf(err)
	}
	if len(s.files) == 0 {
		fmt.Fprintln(c.err, "phantom report: no files: expected benchmark text such as results.txt; phantom report -h explains")
		return statusBadInput
	}
	if s.html == "" && s.markdown == "" && s.json == "" {
		s.html = "report.html"
	}
	m, err := s.build()
	if err == nil {
		err = s.write(c, m)
	}
	if err != nil {
		complain(c, "report", err)
		return statusBadInput
	}
	return statusOK
}

// build reads everything and makes the model.
func (s *reportSpec) build() (*report.Model, error) {
	in := report.Input{Set: results.ReadFiles(s.files...), Sources: s.files, Made: time.Now()}
	var problems []error
	for _, p := range in.Set.Problems {
		if p.Kind.Bad() && p.Kind != results.Mixed {
			problems = append(problems, errors.New(p.String()))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	var err error
	if s.artifacts != "" {
		if in.Artifacts, err = artifact.Load(s.artifacts); err != nil {
			return nil, fmt.Errorf("--artifacts: %w", err)
		}
		if len(in.Artifacts.Folders) == 0 {
			return nil, fmt.Errorf("--artifacts %s: no samples in it: expected the folder that run --artifacts or go test -artifacts wrote", s.artifacts)
		}
	}
	where := s.baselines
	if where == "" {
		// Outside of a module there are none, and the report says so.
		if where, err = findBaselines(); err != nil {
			return report.Build(in)
		}
		if _, err := os.Stat(where); err != nil {
			return report.Build(in)
		}
	}
	if in.Entries, err = selectEntries(where, ""); err != nil {
		return nil, err
	}
	return report.Build(in)
}

// A form is one of the ways in which a report is written.
type form struct {
	flag, file string
	write      func(io.Writer) error
	text       bytes.Buffer
	aside      string // the file beside file that holds the text so far
}

// write makes every form, and puts every file down beside its place, before it
// gives the first one its name: either all are there or what stood there before.
func (s *reportSpec) write(c *console, m *report.Model) (err error) {
	forms := []*form{{flag: "-o", file: s.html, write: m.WriteHTML}, {flag: "--markdown", file: s.markdown, write: m.WriteMarkdown}, {flag: "--json", file: s.json, write: m.WriteJSON}}
	forms = slices.DeleteFunc(forms, func(f *form) bool { return f.file == "" })
	piped := ""
	defer func() {
		for _, f := range forms {
			if f.aside != "" {
				err = errors.Join(err, os.Remove(f.aside))
			}
		}
	}()
	for _, f := range forms {
		if f.file == "-" && piped != "" {
			return fmt.Errorf("%s - and %s -: expected one form on standard output", piped, f.flag)
		}
		if f.file == "-" {
			piped = f.flag
		}
		if err := f.write(&f.text); err != nil {
			return err
		}
	}
	for _, f := range forms {
		if err := f.putAside(); err != nil {
			return fmt.Errorf("%s: %w", f.flag, err)
		}
	}
	for _, f := range forms {
		if f.file == "-" {
			_, err = f.text.WriteTo(c.out)
		} else if err = os.Rename(f.aside, f.file); err == nil {
			f.aside = ""
			fmt.Fprintf(c.err, "wrote %s\n", f.file)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.flag, err)
		}
	}
	return nil
}

// putAside writes the text into a file beside the one it is meant for.
func (f *form) putAside() error {
	if f.file == "-" {
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(f.file), filepath.Base(f.file)+".*.tmp")
	if err != nil {
		return err
	}
	f.aside = file.Name()
	_, err = file.Write(f.text.Bytes())
	return errors.Join(err, file.Chmod(0o644), file.Close())
}
