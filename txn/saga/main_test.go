package saga_test

import (
	"testing"

	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
