package saga

import (
	"fmt"
	"net/url"
	"strings"
)

// All rows of sagas have this in their keys, right behind the prefix that says where
// they lie, or, of a lock, behind the key that is locked.
const reserved = "\x00saga/"

// The kinds of rows.
const (
	kindHeader = "h/" // name of the saga: what it is, and how far it was at the last turn
	kindOpen   = "o/" // name of the saga: it is not finished
	kindStep   = "s/" // name of the saga, 0, index of the step: how far that is
	kindLease  = "l/" // name of an orchestrator: its life, and until when it has its lease
	kindLock   = "k"  // behind the key that is locked
)

// maxHome bounds a prefix, in bytes.
const maxHome = 256

func headerKey(id ID) string { return id.Home + reserved + kindHeader + id.Name }
func openKey(id ID) string   { return id.Home + reserved + kindOpen + id.Name }

// stepKey is where the record of a step lies. at is nil if all lie at home.
func stepKey(id ID, at []string, step int) string {
	home := id.Home
	if at != nil {
		home = at[step]
	}
	return home + reserved + kindStep + id.Name + "\x00" + string([]byte{byte(step)})
}

func leaseKey(home, name string) string { return home + reserved + kindLease + name }

func lockKey(key string) string { return key + reserved + kindLock }

// callKey names a step to what is outside. No other step has the same, whatever is in
// the names.
func callKey(id ID, step string) string {
	return url.QueryEscape(id.Home) + ":" + url.QueryEscape(id.Name) + "/" + url.QueryEscape(step)
}

// spanOf is the span of all rows of a kind at a home.
func spanOf(home, kind string) (start, end string) {
	start = home + reserved + kind
	return start, start[:len(start)-1] + "0" // '0' comes right behind '/'
}

// Reserved reports whether a key is of a row that sagas keep. Whoever scans meets them:
// they lie behind the prefixes that they were given, and locks behind what is locked.
func Reserved(key string) bool { return strings.Contains(key, reserved) }

// check refuses names that cannot be.
func (id ID) check() error {
	switch {
	case len(id.Home) > maxHome:
		return &InputError{ID: id, Text: fmt.Sprintf("a home of %d bytes, expected at most %d", len(id.Home), maxHome)}
	case len(id.Name) == 0 || len(id.Name) > maxName || strings.Contains(id.Name, "\x00"):
		return &InputError{ID: id, Text: fmt.Sprintf("a name of %d bytes, expected 1 to %d and no zero", len(id.Name), maxName)}
	}
	return nil
}
