package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A benchCase is one case that a run will measure.
type benchCase struct {
	pkg, name string
	length    string // in the words of -benchtime
}

// listMark begins the lines of the harness that name cases.
const listMark = "# case "

// maxSaid bounds what is kept of the words of go test, for the case that it
// fails.
const maxSaid = 1 << 20

// listCases asks the test binaries for their cases, in the order in which they
// will run. It takes the time of linking them. status is not zero when go test
// failed, and text is then what it said.
func listCases(ctx context.Context, run goTest, args, env []string) (cases []benchCase, status int, text string, err error) {
	var said strings.Builder
	var open []benchCase // those whose package is not known yet
	w := &lineWriter{line: func(line string) {
		if _, rest, ok := strings.Cut(line, listMark); ok {
			name, length, _ := strings.Cut(rest, " ")
			open = append(open, benchCase{name: name, length: length})
			return
		}
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 2 && fields[0] == "ok":
			for i := range open {
				open[i].pkg = fields[1]
			}
			cases, open = append(cases, open...), nil
		case len(fields) >= 3 && strings.HasPrefix(line, "Benchmark"):
			// A benchmark that does not run through the harness was run once.
			open = append(open, benchCase{name: fields[0], length: "1x"})
		}
		if said.Len() < maxSaid {
			fmt.Fprintln(&said, line)
		}
	}}
	status, err = run(ctx, args, append(env, "PHANTOM_LIST=1"), w)
	said.Write(w.rest) // go may die in the middle of a word
	return append(cases, open...), status, said.String(), err
}

// A case takes about so much longer than its length: package testing aims a
// fifth beyond it, and the harness warms up for a twentieth. Booting comes on
// top, as does a count of operations, whose time nobody knows before.
const (
	lengthFactor = 1.25
	bootTime     = 200 * time.Millisecond
	countTime    = 2 * time.Second
)

// expected estimates how long a case takes.
func (b benchCase) expected() time.Duration {
	if n, ok := strings.CutSuffix(b.length, "x"); ok {
		if count, err := strconv.Atoi(n); err == nil && count <= 1 {
			return bootTime
		}
		return bootTime + countTime
	}
	d, err := time.ParseDuration(b.length)
	if err != nil {
		d = time.Second // the default of package testing
	}
	return bootTime + time.Duration(lengthFactor*float64(d))
}

// total estimates how long cases take, each so many times.
func total(cases []benchCase, times int) (d time.Duration) {
	for _, b := range cases {
		d += b.expected()
	}
	return d * time.Duration(times)
}
