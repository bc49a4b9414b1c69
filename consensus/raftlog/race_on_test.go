//go:build race

package raftlog_test

const raceEnabled = true
