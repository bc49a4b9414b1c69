package harness

import (
	"fmt"
	"strings"
	"time"
)

// Name builds the name of a case from keys and values in turn:
//
//	Name("disk", "sync", "clients", 64) = "disk=sync/clients=64"
//
// A key is a lower-case letter followed by lower-case letters and digits. A
// value is printed as fmt does and must neither be empty nor hold a space, a
// slash or an equals sign, which the tools would read as structure, nor end in a
// hyphen and digits, which they would read as the number of processors where
// there is only one. A duration of zero prints as 0. Name panics on anything
// else: names are written by programmers.
func Name(pairs ...any) string {
	if len(pairs) == 0 || len(pairs)%2 != 0 {
		panic(fmt.Sprintf("harness: name of %d parts: want keys and values in turn", len(pairs)))
	}
	var s strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok || !validKey(key) {
			panic(fmt.Sprintf("harness: name: key %v: want a lower-case word", pairs[i]))
		}
		value := fmt.Sprint(pairs[i+1])
		if d, ok := pairs[i+1].(time.Duration); ok && d == 0 {
			value = "0"
		}
		if value == "" || strings.ContainsAny(value, " \t\r\n/=") {
			panic(fmt.Sprintf("harness: name: value %q of %s: want text without space, slash or equals sign", value, key))
		}
		if endsLikeProcs(value) {
			panic(fmt.Sprintf("harness: name: value %q of %s: want one that does not end in a hyphen and digits, which stand for processors", value, key))
		}
		if i > 0 {
			s.WriteByte('/')
		}
		s.WriteString(key + "=" + value)
	}
	return s.String()
}

// endsLikeProcs reports whether a name ends as those do to which package testing
// appends GOMAXPROCS. On one processor it appends nothing, so read-8 and read-16
// would be one benchmark on 8 and on 16.
func endsLikeProcs(name string) bool {
	rest := strings.TrimRight(name, "0123456789")
	return len(rest) < len(name) && strings.HasSuffix(rest, "-")
}

func validKey(key string) bool {
	for i, c := range key {
		if !(c >= 'a' && c <= 'z') && !(i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return key != ""
}
