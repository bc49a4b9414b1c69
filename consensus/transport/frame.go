package transport

// Sizes of a frame:
//
//	length u32 | crc32c u32 | version u8 | class u8 | flags u8 | stamp u64 | body
//	body of messages: count | Raft messages | entries | numbers | messages
//
// length counts what follows the checksum, and the checksum covers it. The
// counts before the messages let the receiver allocate each kind of value in
// one piece; it believes them only within limits.
const (
	prefixBytes     = 8
	headerBytes     = prefixBytes + 11
	maxServiceBytes = 255
)

// frameBytes is the length of a frame of count messages of shape s.
func frameBytes(count int, s shape) int {
	return headerBytes + uvarintLen(uint64(count)) + uvarintLen(uint64(s.messages)) +
		uvarintLen(uint64(s.entries)) + uvarintLen(uint64(s.numbers)) + s.bytes
}
