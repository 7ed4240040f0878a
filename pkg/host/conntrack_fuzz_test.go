package host

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzFlow(f *testing.F) {
	var m message
	m.nfHeader(unix.AF_INET, 0)
	at := m.open(ctaTupleOrig)
	ip := m.open(ctaTupleIP)
	m.raw(ctIPSource(false), []byte{10, 0, 0, 2})
	m.close(ip)
	m.close(at)
	f.Add(m.b)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if flow, ok := parseFlow(payload); ok && flow.key == nil {
			t.Error("a connection without a key can't be deleted")
		}
		if l, ok := parseDiag(payload); ok && !l.addr.IsValid() {
			t.Error("a listener without an address")
		}
	})
}
