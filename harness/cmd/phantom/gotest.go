package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// A goTest runs the go command with arguments and, beside its own environment,
// variables ("A=b"). Both of its streams go to out, as its user would see them.
// It returns the exit status; an error means that there was none.
type goTest func(ctx context.Context, args, env []string, out io.Writer) (status int, err error)

// grace is how long the go command may take to end after an interrupt.
const grace = 10 * time.Second

// execGo is the goTest of the process.
func execGo(ctx context.Context, args, env []string, out io.Writer) (int, error) {
	return execWithin(ctx, grace, args, env, out)
}

// execWithin runs the go command and, when ctx ends, interrupts it and all that
// it started: a test binary that outlives it would measure beside the next run.
// What is left after grace is killed.
func execWithin(ctx context.Context, grace time.Duration, args, env []string, out io.Writer) (int, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = grace
	err := runFamily(cmd)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return statusInterrupted, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	case err != nil:
		return 0, fmt.Errorf("go %s: %w", args[0], err)
	}
	return 0, nil
}

// A lineWriter passes whole lines on, without their ends. What follows the last
// line end is its rest, which is no line yet.
type lineWriter struct {
	line func(text string)
	rest []byte
}

// maxLine bounds what a lineWriter keeps: benchmark lines are a kilobyte.
const maxLine = 1 << 20

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.rest = append(w.rest, p...)
			if len(w.rest) > maxLine {
				return 0, fmt.Errorf("a line of more than %d bytes: expected benchmark text", maxLine)
			}
			break
		}
		w.line(string(w.rest) + string(p[:i]))
		w.rest, p = w.rest[:0], p[i+1:]
	}
	return n, nil
}
