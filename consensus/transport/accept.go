package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// accept runs until the listener is closed.
func (t *TCP) accept() {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			if t.shut.Load() {
				return
			}
			// Out of file descriptors, most likely: others may free some.
			t.log.Error("transport: accept", "err", err)
			if !pause(t.life, t.o.DialBackoff) {
				return
			}
			continue
		}
		p := t.admit()
		if p == unheard {
			t.log.Debug("transport: connection closed unheard", "peer", c.RemoteAddr().String(), "conns", t.o.MaxConns)
			c.Close()
			continue
		}
		if !t.track(c) {
			return
		}
		if !t.start(func() { t.serveConn(c, p) }) {
			t.drop(c)
			return
		}
	}
}

// maxRefusals bounds the connections beyond MaxConns that are told why they are
// refused, each for DialTimeout at most. Others are closed unheard.
const maxRefusals = 64

// A place is what an accepted connection is counted as.
type place uint8

const (
	admitted place = iota
	refused        // told that there are too many
	unheard
)

func (t *TCP) admit() place {
	t.connMu.Lock()
	defer t.connMu.Unlock()
	switch {
	case t.accepted < t.o.MaxConns:
		t.accepted++
		return admitted
	case t.refused < maxRefusals:
		t.refused++
		return refused
	}
	return unheard
}

func (t *TCP) dismiss(p place) {
	t.connMu.Lock()
	defer t.connMu.Unlock()
	switch p {
	case admitted:
		t.accepted--
	case refused:
		t.refused--
	}
}

// serveConn serves one accepted connection to its end. Whatever is wrong with
// it ends this connection alone.
func (t *TCP) serveConn(raw net.Conn, p place) {
	defer t.dismiss(p)
	defer t.drop(raw)
	log := t.log.With("peer", raw.RemoteAddr().String())
	if err := raw.SetDeadline(time.Now().Add(t.o.DialTimeout)); err != nil {
		return
	}
	c, h, err := t.handshake(raw, p)
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		t.refuse(log, err)
		return
	}
	log = log.With("from", uint64(h.from), "for", h.purpose.String())
	t.watch(log, raw, h.purpose)
	switch h.purpose {
	case forWho:
	case forCalls:
		err = t.serveCalls(c, h.from)
	case forStream:
		err = t.serveStream(c, h.from)
	default:
		err = t.serveMessages(c, h.from)
	}
	t.refuse(log, err)
}

// handshake is the accepting side's handshake.
func (t *TCP) handshake(raw net.Conn, p place) (net.Conn, hello, error) {
	c := raw
	var secure *tls.Conn
	if t.server != nil {
		secure = tls.Server(raw, t.server)
		if err := secure.Handshake(); err != nil {
			return nil, hello{}, err
		}
		c = secure
	}
	h, err := readHello(c)
	if err != nil {
		return nil, h, err
	}
	v, err := h.check(t.o.Cluster, t.id)
	if err == nil && secure != nil && h.purpose != forWho {
		if err = t.checkPeer(secure.ConnectionState(), h.from); err != nil {
			v, err = wrongIdentity, fmt.Errorf("calls itself node %d: %w", h.from, err)
		}
	}
	if err == nil && p != admitted {
		v, err = tooMany, fmt.Errorf("%d connections are open already", t.o.MaxConns)
	}
	if _, werr := c.Write(appendWelcome(nil, v, t.o.Cluster, t.id)); err == nil {
		err = werr
	}
	return c, h, err
}

// refuse logs why a connection ended: a peer that goes away is news at debug
// level, one that does not speak the protocol a warning.
func (t *TCP) refuse(log *slog.Logger, err error) {
	var gone *net.OpError
	alert := errors.As(err, &gone) && gone.Op == "remote error" // of TLS: the peer refuses us
	switch {
	case err == nil || errors.Is(err, io.EOF) || t.shut.Load():
		log.Debug("transport: connection ended")
	case !alert && (errors.Is(err, io.ErrUnexpectedEOF) || gone != nil):
		log.Info("transport: connection lost", "err", err)
	default:
		log.Warn("transport: connection dropped", "reason", err)
	}
}

// serveMessages delivers a peer's messages until the connection ends.
func (t *TCP) serveMessages(c net.Conn, from NodeID) error {
	frames := newFrameReader(c, t.o.MaxFrameBytes)
	var batch []Message
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		if f.kind != frameMessages {
			return fmt.Errorf("transport: %w: frame of kind %d among messages, expected %d", errFormat, f.kind, frameMessages)
		}
		m, refs, err := decodeBody(batch[:0], f.body)
		if err != nil {
			return err
		}
		if refs > 0 && !f.kept {
			frames.keep()
		}
		if t.shut.Load() {
			return nil
		}
		t.observe(f.stamp)
		t.receive(from, f.class, f.bytes, m)
		clear(m)
		batch = m
	}
}
