package measure

// platformSources returns what this platform tells beyond processor time.
func platformSources() []source { return append(procSources("/"), usageSource{}) }
