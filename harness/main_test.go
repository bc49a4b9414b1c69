package harness

import "testing"

// this is the test process itself, for tests that look into it.
var this *testing.M

func TestMain(m *testing.M) {
	this = m
	Main(m)
}
