//go:build !race

package raftlog_test

const raceEnabled = false
