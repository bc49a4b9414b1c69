package lock

import (
	"testing"

	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
