package transport

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A connection begins with a hello from the dialer and a welcome in return:
//
//	hello    magic 4 | version u16 | purpose u8 | 0 | cluster u64 | from u64 | to u64 | crc32c u32
//	welcome  magic 4 | version u16 | verdict u8 | 0 | cluster u64 | node u64 | crc32c u32
//
// Magic and version stand first for ever, so that any two versions can tell
// why they do not talk.
const (
	helloMagic   = "PhDB"
	helloBytes   = 36
	welcomeBytes = 28
)

// A purpose is what a connection carries.
type purpose uint8

const (
	forControl purpose = iota
	forData
	forCalls
	forStream
	forWho // nothing but the welcome, see Who
	purposes
)

func (p purpose) String() string {
	return [...]string{"control", "data", "calls", "stream", "who"}[p]
}

// A verdict is the accepting side's answer to a hello.
type verdict uint8

const (
	welcome verdict = iota
	wrongVersion
	wrongCluster
	wrongNode
	tooMany
	wrongIdentity
)

type hello struct {
	version  uint16
	purpose  purpose
	cluster  uint64
	from, to NodeID
}

func (h hello) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, helloMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, h.version)
	dst = append(dst, byte(h.purpose), 0)
	dst = binary.LittleEndian.AppendUint64(dst, h.cluster)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.from))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.to))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// readStart reads magic and version and, if they are ours, the rest of size
// bytes.
func readStart(r io.Reader, size int) ([]byte, uint16, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b[:6]); err != nil {
		return nil, 0, fmt.Errorf("no handshake: %w", err)
	}
	if string(b[:4]) != helloMagic {
		return nil, 0, fmt.Errorf("%w: begins with %q, expected %q", errFormat, b[:4], helloMagic)
	}
	version := binary.LittleEndian.Uint16(b[4:])
	if version != protocolVersion {
		return nil, version, nil
	}
	if _, err := io.ReadFull(r, b[6:]); err != nil {
		return nil, version, fmt.Errorf("handshake cut off: %w", err)
	}
	sum := binary.LittleEndian.Uint32(b[size-4:])
	if got := crc32.Checksum(b[:size-4], castagnoli); got != sum {
		return nil, version, fmt.Errorf("%w: handshake has checksum %#08x, expected %#08x", errFormat, got, sum)
	}
	return b, version, nil
}

// readHello returns a hello of any version; of a foreign one nothing else is
// known.
func readHello(r io.Reader) (hello, error) {
	b, version, err := readStart(r, helloBytes)
	h := hello{version: version}
	if err != nil || b == nil {
		return h, err
	}
	h.purpose = purpose(b[6])
	h.cluster = binary.LittleEndian.Uint64(b[8:])
	h.from = NodeID(binary.LittleEndian.Uint64(b[16:]))
	h.to = NodeID(binary.LittleEndian.Uint64(b[24:]))
	if h.purpose >= purposes {
		return h, fmt.Errorf("%w: connection for purpose %d, expected below %d", errFormat, h.purpose, purposes)
	}
	if h.from == 0 && h.purpose != forWho {
		return h, fmt.Errorf("%w: connection from node 0", errFormat)
	}
	return h, nil
}

// check returns what a node of the cluster says to h, and the reason if it is
// not welcome.
func (h hello) check(cluster uint64, node NodeID) (verdict, error) {
	switch {
	case h.version != protocolVersion:
		return wrongVersion, fmt.Errorf("%w: version %d, expected %d", errFormat, h.version, protocolVersion)
	case h.purpose == forWho:
	case h.cluster != cluster:
		return wrongCluster, fmt.Errorf("node %d is of cluster %#x, expected %#x", h.from, h.cluster, cluster)
	case h.to != node:
		return wrongNode, fmt.Errorf("node %d looks for node %d, this is %d", h.from, h.to, node)
	}
	return welcome, nil
}

func appendWelcome(dst []byte, v verdict, cluster uint64, node NodeID) []byte {
	at := len(dst)
	dst = append(dst, helloMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, protocolVersion)
	dst = append(dst, byte(v), 0)
	dst = binary.LittleEndian.AppendUint64(dst, cluster)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(node))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// A greeting is what a welcome says.
type greeting struct {
	verdict verdict
	cluster uint64
	node    NodeID
}

func readWelcome(r io.Reader) (greeting, error) {
	b, version, err := readStart(r, welcomeBytes)
	if err != nil {
		return greeting{}, err
	}
	if b == nil {
		return greeting{}, fmt.Errorf("%w: version %d, expected %d", errFormat, version, protocolVersion)
	}
	return greeting{verdict(b[6]), binary.LittleEndian.Uint64(b[8:]), NodeID(binary.LittleEndian.Uint64(b[16:]))}, nil
}

// admits returns an error that says why h was refused.
func (w greeting) admits(h hello) error {
	switch v := w.verdict; {
	case v == wrongCluster || w.cluster != h.cluster:
		return fmt.Errorf("node is of cluster %#x, expected %#x", w.cluster, h.cluster)
	case v == wrongNode || w.node != h.to:
		return fmt.Errorf("node is %d, expected %d", w.node, h.to)
	case v == tooMany:
		return fmt.Errorf("node %d has too many connections", w.node)
	case v == wrongIdentity:
		return fmt.Errorf("node %d does not take this certificate for node %d's", w.node, h.from)
	case v != welcome:
		return fmt.Errorf("%w: node %d answered %d to the handshake, expected %d", errFormat, w.node, v, welcome)
	}
	return nil
}
