package rtnl

import "testing"

// FuzzTokenBucket reads queues as a container may have made them.
func FuzzTokenBucket(f *testing.F) {
	var m Message
	m.tcmsg(2)
	m.Str(tcaKind, "tbf")
	at := m.Open(tcaOptions)
	m.Raw(tcaTbfParms, make([]byte, tbfSize))
	m.Raw(tcaTbfRate64, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	m.Close(at)
	f.Add(m.B)
	f.Add(m.B[:tcmsgSize])
	f.Fuzz(func(t *testing.T, data []byte) {
		if index := TokenBucketOn(data); index != 0 && len(data) < tcmsgSize {
			t.Errorf("link %d of %d bytes", index, len(data))
		}
		b := tokenBucketOf(data)
		b.Same(TokenBucket{Rate: 1})
	})
}

func TestTokenBucket(t *testing.T) {
	want := TokenBucket{Rate: 1_250_000, Burst: 125_000, Limit: 131_072}
	have := TokenBucket{Rate: 1_250_000, Limit: 131_072, ticks: 1_562_500} // 100 ms
	if !have.Same(want) {
		t.Error("it is the same")
	}
	for _, other := range []TokenBucket{{1_250_001, 125_000, 131_072, 0}, {1_250_000, 125_000, 131_073, 0}, {1_250_000, 150_000, 131_072, 0}} {
		if have.Same(other) {
			t.Errorf("%+v is not the same", other)
		}
	}
}
