package conntrack

import (
	"testing"

	"dcni/pkg/host/nlsock"

	"golang.org/x/sys/unix"
)

func FuzzFlow(f *testing.F) {
	var m nlsock.Message
	m.NFHeader(unix.AF_INET, 0)
	at := m.Open(ctaTupleOrig)
	ip := m.Open(ctaTupleIP)
	m.Raw(ctIPSource(false), []byte{10, 0, 0, 2})
	m.Close(ip)
	m.Close(at)
	f.Add(m.B)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if flow, ok := parseFlow(payload); ok && flow.key == nil {
			t.Error("a connection without a key can't be deleted")
		}
	})
}
