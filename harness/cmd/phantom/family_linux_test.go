package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeGoCommand puts a shell script before the go command. The script and all
// that it starts hold the returned pipe open for as long as they live.
func fakeGoCommand(t *testing.T, script string) *os.File {
	t.Helper()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "alive")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\nexec 3>'"+pipe+"'\n"+script), 0o700))
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	alive, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = alive.Close() })
	return alive
}

// dead waits for the end of all who hold a pipe. The deadline only ends a test
// that has failed.
func dead(t *testing.T, alive *os.File) {
	t.Helper()
	require.NoError(t, alive.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err := io.Copy(io.Discard, alive)
	require.NoError(t, err, "somebody still lives")
}

// A test binary must not measure beside the next run, whether it heeds the
// interrupt or not.
func TestInterruptReachesAllProcesses(t *testing.T) {
	for name, script := range map[string]string{
		"left behind": "sleep 600 & echo up; wait",
		"ignored":     "trap '' INT; sleep 600 & echo up; sleep 600",
	} {
		t.Run(name, func(t *testing.T) {
			alive := fakeGoCommand(t, script)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			up := &lineWriter{line: func(string) { cancel() }}
			status, err := execWithin(ctx, 100*time.Millisecond, []string{"test"}, nil, up)
			require.NoError(t, err)
			require.Equal(t, statusInterrupted, status)
			dead(t, alive)
		})
	}
}

// It has its time to end by itself.
func TestInterruptLeavesTimeToEnd(t *testing.T) {
	alive := fakeGoCommand(t, `sh -c 'trap "echo bye >&3; exit" INT; echo up; while :; do sleep 0.02; done'; exit`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	status, err := execWithin(ctx, time.Minute, []string{"test"}, nil, &lineWriter{line: func(string) { cancel() }})
	require.NoError(t, err)
	require.Equal(t, statusInterrupted, status)
	word, err := io.ReadAll(alive)
	require.NoError(t, err)
	require.Equal(t, "bye\n", string(word))
}

// A go command that somebody else kills takes its test binary with it.
func TestKilledGoLeavesNobody(t *testing.T) {
	alive := fakeGoCommand(t, "sleep 600 & kill -9 $$")
	status, err := execWithin(t.Context(), 100*time.Millisecond, []string{"test"}, nil, io.Discard)
	require.ErrorContains(t, err, "go test: signal: killed")
	require.Zero(t, status)
	dead(t, alive)
}

func TestCommandEndsByASignal(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		ctx, stop := untilInterrupt()
		require.NoError(t, syscall.Kill(syscall.Getpid(), s))
		<-ctx.Done()
		stop()
	}
}
