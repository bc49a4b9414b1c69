package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// The exit statuses, beside those of go test.
const (
	statusOK          = 0
	statusMiss        = 1
	statusBadInput    = 2
	statusMissing     = 3
	statusInterrupted = 130
)

func main() {
	ctx, stop := untilInterrupt()
	c := newConsole(os.Stdout, os.Stderr, os.Getenv)
	status := dispatch(ctx, c, os.Args[1:])
	stop()
	os.Exit(status)
}

// untilInterrupt returns a context that ends when a user interrupts the command
// or its supervisor asks it to end.
func untilInterrupt() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// A command is one subcommand.
type command struct {
	name    string
	summary string // one line, for the list of commands
	usage   string // what follows "phantom NAME"
	help    string // what it does, examples, exit status
	run     func(ctx context.Context, c *console, self *command, args []string) int
}

// commands lists the subcommands in the order of the help text.
func commands() []*command {
	return []*command{runCommand(), checkCommand(), reportCommand(), bandsCommand()}
}

// dispatch runs the subcommand that args name.
func dispatch(ctx context.Context, c *console, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(c.err, overview())
		return statusBadInput
	}
	name, rest := args[0], args[1:]
	switch name {
	case "-h", "-help", "--help", "help":
		if name == "help" && len(rest) > 0 {
			return dispatch(ctx, c, []string{rest[0], "-h"})
		}
		fmt.Fprint(c.out, overview())
		return statusOK
	}
	for _, cmd := range commands() {
		if cmd.name == name {
			return cmd.run(ctx, c, cmd, rest)
		}
	}
	fmt.Fprintf(c.err, "phantom: command %q: expected one of %s; phantom -h explains them\n", name, strings.Join(commandNames(), ", "))
	return statusBadInput
}

func commandNames() []string {
	var names []string
	for _, cmd := range commands() {
		names = append(names, cmd.name)
	}
	return names
}

func overview() string {
	var s strings.Builder
	s.WriteString("phantom runs the benchmarks of PhantomDB and judges what they print.\n\nUsage: go tool phantom COMMAND [flags] [arguments]\n\n")
	for _, cmd := range commands() {
		fmt.Fprintf(&s, "  %-8s %s\n", cmd.name, cmd.summary)
	}
	s.WriteString(`
Start with:

  go tool phantom run                  the quick suite, in minutes
  go tool phantom check FILE           judge the file it names in the end
  go tool phantom COMMAND -h           what a command does, with examples

Exit status: 0 done, 1 an expectation is missed, 2 bad input, 3 data is missing.
`)
	return s.String()
}

// errHelp is returned by parse when help was asked for and has been printed.
var errHelp = errors.New("help")

// parse reads flags, which may stand before and behind the arguments, and
// returns the arguments. It prints what is wrong, or the help.
func (cmd *command) parse(c *console, fs *flag.FlagSet, args []string) (rest []string, err error) {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	for len(args) > 0 {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			cmd.printHelp(c, fs)
			return nil, errHelp
		} else if err != nil {
			fmt.Fprintf(c.err, "phantom %s: %v; phantom %s -h lists what it takes\n", cmd.name, err, cmd.name)
			return nil, err
		}
		if args = fs.Args(); len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	return rest, nil
}

func (cmd *command) printHelp(c *console, fs *flag.FlagSet) {
	fmt.Fprintf(c.out, "Usage: go tool phantom %s %s\n\n%s\nFlags:\n", cmd.name, cmd.usage, cmd.help)
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		name := "--" + f.Name
		if value != "" {
			name += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(c.out, "  %-18s %s\n", name, usage)
	})
}

// statusOf is the exit status of a parse that did not succeed.
func statusOf(err error) int {
	if errors.Is(err, errHelp) {
		return statusOK
	}
	return statusBadInput
}
