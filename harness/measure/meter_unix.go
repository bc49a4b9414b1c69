//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package measure

// platformSources returns what this platform tells beyond processor time: the
// switches of the process, and no levels of memory or disk.
func platformSources() []source { return []source{usageSource{}} }
