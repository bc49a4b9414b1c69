//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package measure

// platformSources returns what this platform tells beyond processor time:
// nothing yet, so that those meters are absent.
func platformSources() []source { return nil }
