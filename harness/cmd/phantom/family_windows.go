package main

import (
	"errors"
	"fmt"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

// runFamily runs cmd in a job of its own. When cmd's context ends all processes
// of the job are killed: Windows has no interrupt that reaches them and not this
// process. They die with the job's handle too, and with this process.
func runFamily(cmd *exec.Cmd) error {
	job, err := newJob()
	if err != nil {
		return err
	}
	defer func() { _ = windows.CloseHandle(job) }()
	cmd.Cancel = func() error {
		// cmd may not be in the job yet.
		return errors.Join(windows.TerminateJobObject(job, statusInterrupted), cmd.Process.Kill())
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// What go starts before it is in the job would escape, and takes it longer.
	err = assign(job, cmd.Process.Pid)
	if err != nil {
		err = errors.Join(err, cmd.Process.Kill())
	}
	return errors.Join(err, cmd.Wait())
}

func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, fmt.Errorf("job object: %w", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err != nil {
		return 0, errors.Join(fmt.Errorf("job object: limits: %w", err), windows.CloseHandle(job))
	}
	return job, nil
}

func assign(job windows.Handle, pid int) error {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return fmt.Errorf("job object: process %d: %w", pid, err)
	}
	err = windows.AssignProcessToJobObject(job, process)
	if err = errors.Join(err, windows.CloseHandle(process)); err != nil {
		return fmt.Errorf("job object: process %d: %w", pid, err)
	}
	return nil
}
