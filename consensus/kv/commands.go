package kv

// Commands take the place of the package's own commands, for a replicated state of
// another kind that is kept in the pairs of a Machine. The machine holds its lock
// while it calls them: they must be quick, and use the pairs that they are handed
// instead of the machine. Replicas that run the same commands must come to the same
// pairs and answers.
type Commands interface {
	// Load takes in what the machine holds: when it has been opened, and when a
	// snapshot is about to take the place of everything. An error refuses that.
	Load(p Pairs) error
	// Run runs a command and returns its answer. The command is valid during the
	// call only.
	Run(p Pairs, command []byte) (answer []byte)
	// Applied says that what was loaded, or ran since, is the state at index.
	Applied(index uint64)
}

// Pairs are what a machine holds, for its Commands. Keys and values that it hands
// out are shared and must not be changed; those it is handed it copies.
type Pairs struct{ s *state }

// Get returns the value at key.
func (p Pairs) Get(key []byte) (value []byte, ok bool) { return p.s.data.Get(view(key)) }

// Put sets the value at key. Key and value must be within MaxKeyBytes and
// MaxValueBytes.
func (p Pairs) Put(key, value []byte) { p.s.put(key, value) }

// Delete deletes key, if it is there.
func (p Pairs) Delete(key []byte) { p.s.remove(key) }

// Ascend calls visit for the pairs from a key on, in ascending order, until it
// returns false. The pairs must not be changed meanwhile.
func (p Pairs) Ascend(from []byte, visit func(key, value []byte) bool) {
	p.s.data.Ascend(view(from), func(key string, value []byte) bool { return visit(bytesOf(key), value) })
}

// load hands s to the commands, if there are any of the caller's.
func (o *Options) load(s *state) error {
	if o.Commands == nil {
		return nil
	}
	return o.Commands.Load(Pairs{s})
}

func (o *Options) applied(index uint64) {
	if o.Commands != nil {
		o.Commands.Applied(index)
	}
}
