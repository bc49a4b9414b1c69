package artifact_test

import (
	"testing"

	"github.com/phantomdb/phantomdb/harness"
)

// TestMain stands in the external test package, because harness imports
// artifact.
func TestMain(m *testing.M) { harness.Main(m) }
