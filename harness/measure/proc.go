package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// The files of Linux are read here without a library: it is eight small files,
// the one library for them parses every file there is into structures of its
// own at each reading, and a reading within a measured run must not allocate.
// Nothing in this file needs Linux, so its tests run everywhere.

// clockTick is the unit of processor times in /proc/stat, in nanoseconds:
// USER_HZ has been 100 on every platform that Go runs on.
const clockTick = 1e9 / 100

// maxProcBytes bounds what is read of a file. All that is wanted stands within
// it; /proc/stat goes on with a line for every processor.
const maxProcBytes = 4096

// procSource is one file of /proc or /sys and what to find in it.
type procSource struct {
	file *os.File
	list []Meter
	// parse sets the values of list. They are NaN before.
	parse func(text []byte, into []float64)
	buf   []byte
}

func (p *procSource) meters() []Meter { return p.list }

// close may be called twice.
func (p *procSource) close() error {
	if err := p.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// read asks the kernel again: reading such a file at its beginning makes it
// anew. A file that has become unreadable leaves NaN.
func (p *procSource) read(into []float64) {
	for i := range into {
		into[i] = math.NaN()
	}
	// Whatever the error is, mostly the end of the file: what could be read
	// counts, and what is missing in it stays NaN.
	n, _ := p.file.ReadAt(p.buf, 0)
	p.parse(p.buf[:n], into)
}

// procSources opens what there is below root, which is / but in tests. A file
// that cannot be opened, by its absence or for lack of permission, is no source.
func procSources(root string) []source {
	var out []source
	add := func(path string, list []Meter, parse func([]byte, []float64)) {
		full := filepath.Join(root, path)
		if info, err := os.Stat(full); err != nil || !info.Mode().IsRegular() {
			return
		}
		f, err := os.Open(full)
		if err != nil {
			return
		}
		for i := range list {
			list[i].Source = "/" + path
		}
		out = append(out, &procSource{file: f, list: list, parse: parse, buf: make([]byte, maxProcBytes)})
	}
	add("proc/self/status", statusMeters(), parseStatus)
	add("proc/self/io", ioMeters(), parseIO)
	add("proc/stat", statMeters(), parseStat)
	for _, what := range []string{"cpu", "io", "memory"} {
		add("proc/pressure/"+what, pressureMeters("psi-"+what), parsePressure)
		if group := cgroup(root); group != "" {
			add(group+"/"+what+".pressure", pressureMeters("cgroup-psi-"+what), parsePressure)
		}
	}
	// One processor stands for all: reading the frequency of another wakes it.
	add("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
		[]Meter{{Name: "cpu0-frequency", Unit: "Hz", Kind: Gauge}}, parseFrequency)
	return out
}

func statusMeters() []Meter {
	return []Meter{
		{Name: "rss", Unit: "B", Kind: Gauge},
		{Name: "rss-peak", Unit: "B", Kind: Gauge}, // since the process began
		{Name: "threads", Unit: "1", Kind: Gauge},
	}
}

func parseStatus(text []byte, into []float64) {
	for line := range bytes.Lines(text) {
		key, rest, _ := bytes.Cut(line, []byte{':'})
		switch string(key) { // compared, not converted: no allocation
		case "VmRSS":
			into[0] = number(rest, " ") * 1024
		case "VmHWM":
			into[1] = number(rest, " ") * 1024
		case "Threads":
			into[2] = number(rest, "\n")
		}
	}
}

func ioMeters() []Meter {
	return []Meter{
		{Name: "os-read", Unit: "B", Kind: Counter}, // from devices
		// Counted when memory becomes dirty, by whole pages or larger folios:
		// small writes to a file may show as many times their size.
		{Name: "os-write", Unit: "B", Kind: Counter},
		{Name: "os-read-calls", Unit: "1", Kind: Counter}, // system calls, cached ones too
		{Name: "os-write-calls", Unit: "1", Kind: Counter},
	}
}

func parseIO(text []byte, into []float64) {
	for line := range bytes.Lines(text) {
		key, rest, _ := bytes.Cut(line, []byte{':'})
		switch string(key) {
		case "read_bytes":
			into[0] = number(rest, "\n")
		case "write_bytes":
			into[1] = number(rest, "\n")
		case "syscr":
			into[2] = number(rest, "\n")
		case "syscw":
			into[3] = number(rest, "\n")
		}
	}
}

func statMeters() []Meter {
	return []Meter{
		// All processors together. What this process did not use of it, others did.
		{Name: "machine-cpu", Unit: "ns", Kind: Counter},
		{Name: "machine-idle", Unit: "ns", Kind: Counter},
		{Name: "machine-steal", Unit: "ns", Kind: Counter},
	}
}

// parseStat reads the line that adds up the processors.
func parseStat(text []byte, into []float64) {
	rest, ok := bytes.CutPrefix(text, []byte("cpu "))
	if !ok {
		return
	}
	// user nice system idle iowait irq softirq steal, and guests, who are
	// contained in user and nice.
	var ticks [8]float64
	for i := range ticks {
		ticks[i], rest = cutNumber(rest, " \n")
	}
	into[0] = (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * clockTick
	into[1] = (ticks[3] + ticks[4]) * clockTick
	into[2] = ticks[7] * clockTick
}

func pressureMeters(name string) []Meter {
	return []Meter{
		{Name: name + "-some", Unit: "ns", Kind: Counter},
		{Name: name + "-full", Unit: "ns", Kind: Counter},
	}
}

// parsePressure reads the totals of both lines: the time during which some or
// all tasks stood still for lack of the resource, in microseconds.
func parsePressure(text []byte, into []float64) {
	for line := range bytes.Lines(text) {
		_, total, ok := bytes.Cut(line, []byte("total="))
		if !ok {
			continue
		}
		switch {
		case bytes.HasPrefix(line, []byte("some ")):
			into[0] = number(total, "\n") * 1e3
		case bytes.HasPrefix(line, []byte("full ")):
			into[1] = number(total, "\n") * 1e3
		}
	}
}

func parseFrequency(text []byte, into []float64) {
	into[0] = number(text, "\n") * 1e3 // kHz
}

// number reads a whole number behind blanks. It is NaN where there is none and
// where one of the bytes of end does not follow: a number that the end of the
// text cut off may have lost its last digits.
func number(text []byte, end string) float64 {
	v, _ := cutNumber(text, end)
	return v
}

// cutNumber is number that also returns what follows.
func cutNumber(text []byte, end string) (float64, []byte) {
	text = bytes.TrimLeft(text, " \t")
	n, digits := uint64(0), 0
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		if digits++; digits > 18 { // below 2^63
			return math.NaN(), nil
		}
		n = n*10 + uint64(text[digits-1]-'0')
	}
	if digits == 0 || digits == len(text) || strings.IndexByte(end, text[digits]) < 0 {
		return math.NaN(), nil
	}
	return float64(n), text[digits:]
}

// cgroup returns the directory of this process's control group in the unified
// hierarchy, relative to root, and "" when there is none or it is the root
// group, whose pressure is that of the machine.
func cgroup(root string) string {
	text, err := readSmall(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		path, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::/")
		// A group outside of this process's namespace shows as ../..
		if !ok || path == "" || !filepath.IsLocal(path) {
			continue
		}
		for _, mount := range []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"} {
			dir := mount + "/" + path
			if _, err := os.Stat(filepath.Join(root, dir, "cpu.pressure")); err == nil {
				return dir
			}
		}
	}
	return ""
}

// readSmall reads a file of at most 64 KiB.
func readSmall(path string) (string, error) {
	const limit = 64 << 10
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("measure: %s: %v: want a plain file", path, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit))
	return string(text), err
}
