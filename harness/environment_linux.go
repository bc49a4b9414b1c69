package harness

import "github.com/phantomdb/phantomdb/harness/artifact"

// hasDataFlush says that flush leaves a file's times alone.
const hasDataFlush = true

func describeMachine(e *artifact.Environment) { describeLinux(e, "/") }
