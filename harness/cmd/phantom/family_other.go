//go:build !unix && !windows

package main

import "os/exec"

// runFamily runs cmd. When its context ends cmd alone is killed: this system
// knows no group of processes.
func runFamily(cmd *exec.Cmd) error { return cmd.Run() }
