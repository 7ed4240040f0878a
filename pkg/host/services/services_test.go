package services

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// TestPassedOver wants clients to be looked at again whose rules were made from something else, or whose attachment is
// another, and no others. Those here have no sandbox: who is looked at is forgotten.
func TestPassedOver(t *testing.T) {
	dir := t.TempDir()
	h := Services{Set: &spaces.Set{}, Records: records.Store{Run: dir, Lib: dir}}
	record := func(name string, state records.State) *records.Record {
		r := &records.Record{
			Attachment: wire.Attachment{Network: "web", Container: name, IfName: "eth0"}, NetNS: dir + "/" + name, Cookie: 7, State: state, Firewall: &firewall.Network{},
		}
		r.IPAM.Type, r.SinceBoot = "dipam", time.Second
		return r
	}
	key := func(r *records.Record) madeKey { return madeKey{r.Attachment, r.Cookie, r.Moment} }
	b := service.Balancer{Network: "web"}
	now := sha256.Sum256([]byte(fmt.Sprint(b)))
	same, other, later, gone := record("same", records.Up), record("other", records.Up), record("later", records.Up), record("gone", records.Deleting)
	made := Made{key(same): now, key(other): {1}, key(later): now, key(gone): now}
	later.SinceBoot++
	if err := h.syncClients([]*records.Record{same, other, later, gone}, b, made); err != nil {
		t.Error(err)
	}
	if len(made) != 1 || made[key(same)] != now {
		t.Errorf("left: %v, want only %v", made, key(same))
	}
	b.Network = "changed"
	if err := h.syncClients([]*records.Record{same}, b, made); err != nil || len(made) != 0 {
		t.Errorf("left after a change: %v, %v", made, err)
	}
}
