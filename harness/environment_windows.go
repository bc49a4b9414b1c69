package harness

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// hasDataFlush is false: there is one way to flush a file here.
const hasDataFlush = false

// describeMachine tells processor and version; memory and load stay absent.
func describeMachine(e *artifact.Environment) {
	e.CPU = os.Getenv("PROCESSOR_IDENTIFIER")
	v := windows.RtlGetVersion()
	e.Kernel = fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)
}
