package disk

import (
	"strings"
	"testing"
)

// TestEncodeNameLetters: all but letters, digits and a few is written as its number.
func TestEncodeNameLetters(t *testing.T) {
	for name, want := range map[string]string{
		"azAZ09-_": "azAZ09-_", "a.b": "a.b", ".a": "%2Ea", "@[`{/:": "%40%5B%60%7B%2F%3A", "a b": "a%20b", "é": "%C3%A9", "a~%": "a%7E%25", "": "",
	} {
		if got := EncodeName(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	long := strings.Repeat("n", maxName)
	if got := EncodeName(long); got != long {
		t.Errorf("%d bytes: %s", maxName, got)
	}
	one, other := EncodeName(long+"a"), EncodeName(long+"b")
	if one == other || !strings.HasPrefix(one, long+"~") || len(one) != maxName+1+32 {
		t.Errorf("%s, %s", one, other)
	}
}
