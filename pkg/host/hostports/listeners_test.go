package hostports

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzListener(f *testing.F) {
	f.Add(append(make([]byte, diagMessageLen), 5, 0, diagV6Only, 0, 1, 0, 0, 0))
	f.Add(append([]byte{unix.AF_INET6}, make([]byte, diagMessageLen)...))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if l, ok := parseDiag(payload); ok && !l.Addr.IsValid() {
			t.Error("a listener without an address")
		}
	})
}
