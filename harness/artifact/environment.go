package artifact

import (
	"fmt"
	"time"
)

// Environment is the machine and the settings of one process. What the
// platform did not tell is absent.
type Environment struct {
	Schema int `json:"schema"`
	// ID names the process; samples refer to it.
	ID    string    `json:"id"`
	Start time.Time `json:"start"`

	CPU    string `json:"cpu,omitempty"` // model, as the platform spells it
	Cores  int    `json:"cores"`         // logical processors usable by the process
	Procs  int    `json:"procs"`         // GOMAXPROCS at the start
	Memory int64  `json:"memory_bytes,omitempty"`

	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	Go     string `json:"go"`
	// Virtualization names the hypervisor, "yes" where the platform tells no
	// more, and is absent where it does not tell.
	Virtualization string `json:"virtualization,omitempty"`

	// FileSystem is that of the data directory; Disk was probed on it.
	FileSystem string     `json:"file_system,omitempty"`
	Disk       *DiskProbe `json:"disk,omitempty"`
	// Loopback is the median round trip of one byte over TCP on this host.
	Loopback *Probe `json:"loopback,omitempty"`
	// Load is the load average over 1, 5 and 15 minutes when the process
	// began to measure.
	Load []float64 `json:"load,omitempty"`

	// Commit and Modified are as in Sample.
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
}

// A DiskProbe is what it takes to overwrite one block of an allocated file and
// make it durable.
type DiskProbe struct {
	Block int `json:"block_bytes"`
	// Fsync flushes data and times, Fdatasync data alone; the latter is what
	// the log uses and is absent where the platform has none.
	Fsync     *Probe `json:"fsync,omitempty"`
	Fdatasync *Probe `json:"fdatasync,omitempty"`
}

// A Probe is a small measurement of its own.
type Probe struct {
	P50   int64 `json:"p50_ns"`
	Count int   `json:"count"`
}

func (e *Environment) check() error {
	if err := checkSchema(e.Schema); err != nil {
		return err
	}
	if e.ID == "" || len(e.ID) > maxText {
		return fmt.Errorf("an id of %d bytes: want 1 to %d", len(e.ID), maxText)
	}
	if e.Cores < 0 || e.Procs < 0 || e.Memory < 0 || len(e.Load) > 3 {
		return fmt.Errorf("cores %d, procs %d, memory %d, %d load averages: want none below 0 and at most 3",
			e.Cores, e.Procs, e.Memory, len(e.Load))
	}
	return nil
}
