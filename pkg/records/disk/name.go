package disk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// maxName is the length from which an encoded name is cut: with '~' and a hash
// behind it, it still is a file name, and a lease's target stays short.
const maxName = 180

// EncodeName makes a file name of the name of a container, which may be any
// bytes. Two names never become one: '~' and '%' stand for nothing else.
func EncodeName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch ch := name[i]; {
		case 'a' <= ch && ch <= 'z', 'A' <= ch && ch <= 'Z', '0' <= ch && ch <= '9',
			ch == '-', ch == '_', ch == '.' && i > 0:
			b.WriteByte(ch)
		default:
			fmt.Fprintf(&b, "%%%02X", ch)
		}
	}
	if b.Len() <= maxName {
		return b.String()
	}
	sum := sha256.Sum256([]byte(name))
	return b.String()[:maxName] + "~" + hex.EncodeToString(sum[:16])
}
