package main

import (
	"io"
	"os"
)

// A console is where a command reads and writes: the process, or a test.
type console struct {
	out, err io.Writer
	getenv   func(string) string
	// colour allows escape sequences on out, live a line on err that is
	// written over itself.
	colour, live bool
	width        int // of that line
	goTest       goTest
}

// newConsole makes a console of two files. Escape sequences go to terminals
// only, and colours not where NO_COLOR is set (no-color.org).
func newConsole(out, err *os.File, getenv func(string) string) *console {
	return &console{
		out: out, err: err, getenv: getenv,
		colour: terminal(out) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb",
		live:   terminal(err) && getenv("TERM") != "dumb",
		width:  100,
		goTest: execGo,
	}
}

// terminal reports whether f is a terminal, or another device of characters,
// where nobody reads escape sequences either.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// A paint is a colour, by its escape sequence.
type paint string

const (
	plain  paint = ""
	green  paint = "\x1b[32m"
	red    paint = "\x1b[31m"
	yellow paint = "\x1b[33m"
	dim    paint = "\x1b[2m"
)

// paint colours s if the console shows colours.
func (c *console) paint(p paint, s string) string {
	if !c.colour || p == plain {
		return s
	}
	return string(p) + s + "\x1b[0m"
}
