//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// runFamily runs cmd as the leader of a process group of its own. When cmd's
// context ends the whole group is interrupted. Whatever is left of it when cmd
// was interrupted, or did not exit by itself, is killed.
func runFamily(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cancelled := false // written before Wait returns
	cmd.Cancel = func() error {
		cancelled = true
		return signalGroup(cmd.Process.Pid, syscall.SIGINT)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if cmd.Process != nil && (cancelled || err != nil && !(errors.As(err, &exit) && exit.Exited())) {
		_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL) // usually nobody is left
	}
	return err
}

func signalGroup(leader int, s syscall.Signal) error {
	err := syscall.Kill(-leader, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}
