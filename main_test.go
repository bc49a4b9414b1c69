package phantomdb_test

import (
	"os"
	"testing"

	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv(modesVar) != "" {
		os.Exit(listModes(os.Args[1:]))
	}
	harness.Main(m)
}
