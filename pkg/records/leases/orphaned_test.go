package leases

import (
	"os"
	"testing"

	"dcni/pkg/records"
)

// TestOrphaned: leases of attachments with a record, of another boot, and those kept for
// a name are none.
func TestOrphaned(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/24")
	l := Of(s, "", "web")
	if got, err := l.Orphaned(); err != nil || got != nil {
		t.Fatalf("no leases: %v, %v", got, err)
	}
	for _, name := range []string{"c1", "c2", "c3"} {
		claimText(l, request(name), cfg)
	}
	if err := s.Put(&records.Record{Attachment: owner("c2"), Plugin: "dbridge", State: records.Adding}); err != nil {
		t.Fatal(err)
	}
	got, err := l.Orphaned()
	if err != nil || len(got) != 2 || got[0].Address.String() != "10.1.0.2" || got[0].Owner != owner("c1") || got[1].Owner != owner("c3") {
		t.Fatalf("%v, %v", got, err)
	}
	if lock, free, err := s.TryLockAttachment(owner("c1")); !free || err != nil {
		t.Errorf("its lock is free: %t, %v", free, err)
	} else {
		lock.Unlock()
	}
	if err := os.WriteFile(l.dir+"/10.1.0.9", nil, 0o600); err != nil { // no link of ours
		t.Fatal(err)
	}
	if err := os.Remove(got[0].Path); err != nil { // as an operator does
		t.Fatal(err)
	}
	if got, err = l.Orphaned(); err != nil || len(got) != 1 || got[0].Owner != owner("c3") {
		t.Fatalf("%v, %v", got, err)
	}
	want(t, claimText(l, request("c4", "10.1.0.2"), cfg), "10.1.0.2/24")
	if err := os.Remove(s.Run + "/epoch"); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Orphaned(); err != nil || got != nil {
		t.Fatalf("of another boot: %v, %v", got, err)
	}
}
