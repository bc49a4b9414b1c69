package consensus

import (
	"fmt"
)

// raftLogger hands Raft's log lines to the Host's logger, at debug level: a
// thousand groups would drown an operator otherwise. A panic of Raft means a
// broken invariant and stays one.
type raftLogger struct{ h *Host }

func (l raftLogger) Debug(...any)          {}
func (l raftLogger) Debugf(string, ...any) {}
func (l raftLogger) Info(...any)           {}
func (l raftLogger) Infof(string, ...any)  {}
func (l raftLogger) Warning(v ...any)      { l.h.logger.Debug("raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) {
	l.h.logger.Debug("raft: " + fmt.Sprintf(f, v...))
}
func (l raftLogger) Error(v ...any) { l.h.logger.Warn("raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any) {
	l.h.logger.Warn("raft: " + fmt.Sprintf(f, v...))
}
func (l raftLogger) Fatal(v ...any)            { l.Panic(v...) }
func (l raftLogger) Fatalf(f string, v ...any) { l.Panicf(f, v...) }
func (l raftLogger) Panic(v ...any) {
	panic(fmt.Sprintf("node %d: %s", l.h.opts.Node, fmt.Sprint(v...)))
}
func (l raftLogger) Panicf(f string, v ...any) {
	panic(fmt.Sprintf("node %d: %s", l.h.opts.Node, fmt.Sprintf(f, v...)))
}
