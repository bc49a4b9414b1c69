package saga

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Options configures an Orchestrator. A zero field selects its default.
type Options struct {
	// Name tells the orchestrator from all others. One that is opened under a name that
	// is in use puts the other one out of office.
	Name string
	// Homes are the prefixes at which sagas can be started, and at which those that
	// nobody runs are looked for. The orchestrator's lease lies at the first.
	Homes []string
	// Definitions are those of the sagas that it runs: of all versions of which there
	// are unfinished ones.
	Definitions []*Definition
	// Limit bounds how many sagas are under way here. More of them take more memory, and
	// more locks are held at once. Default: 1024.
	Limit int
	// Refuse has Start return ErrBusy at the limit. Otherwise it waits.
	Refuse bool
	// Lease is for how long the sagas of an orchestrator that does not answer are left
	// alone. It is renewed three times in that. Default: 3 s.
	Lease time.Duration
	// Scan is how often it looks for sagas that nobody runs, and whether what it waits
	// for was settled elsewhere. Negative: it takes over only when told to. Default: as
	// Lease.
	Scan time.Duration
	// Retention is how long finished sagas are kept, which is how long a second Start of
	// the same is known to be one. Negative: for ever. Default: 1 h.
	Retention time.Duration
	// Logger receives what an operator should know. Default: silent.
	Logger *slog.Logger
	_      struct{}
}

func (o Options) withDefaults() (Options, error) {
	if o.Limit == 0 {
		o.Limit = 1024
	}
	if o.Lease == 0 {
		o.Lease = 3 * time.Second
	}
	if o.Scan == 0 {
		o.Scan = o.Lease
	}
	if o.Retention == 0 {
		o.Retention = time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Homes = slices.Compact(slices.Sorted(slices.Values(o.Homes)))
	switch {
	case len(o.Name) == 0 || len(o.Name) > maxName || strings.Contains(o.Name, "\x00"):
		return o, fmt.Errorf("saga: options: Name has %d bytes, expected 1 to %d and no zero", len(o.Name), maxName)
	case len(o.Homes) == 0:
		return o, fmt.Errorf("saga: options: no Homes, expected at least one")
	case o.Limit < 0 || o.Lease < time.Millisecond:
		return o, fmt.Errorf("saga: options: Limit %d, Lease %v, expected positive ones and 1ms or more", o.Limit, o.Lease)
	}
	for _, home := range o.Homes {
		if len(home) > maxHome {
			return o, fmt.Errorf("saga: options: a home of %d bytes, expected at most %d", len(home), maxHome)
		}
	}
	return o, nil
}

// A version names a definition.
type version struct {
	name    string
	version uint32
}

// compileAll checks definitions.
func compileAll(list []*Definition) (map[version]*graph, error) {
	all := map[version]*graph{}
	for _, d := range list {
		g, err := compile(d)
		if err != nil {
			return nil, err
		}
		key := version{d.Name, d.Version}
		if all[key] != nil {
			return nil, &DefinitionError{Name: d.Name, Version: d.Version, Flaw: DuplicateDefinition}
		}
		all[key] = g
	}
	return all, nil
}
