//go:build !(linux || darwin || windows)

package harness

import "github.com/phantomdb/phantomdb/harness/artifact"

const hasDataFlush = false

// describeMachine tells nothing on platforms that nobody has tried.
func describeMachine(*artifact.Environment) {}
