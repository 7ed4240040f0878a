package leases

import (
	"fmt"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// TestServiceAddress wants a service's address to outlive a boot and every runtime's GC, as
// long as the service is there.
func TestServiceAddress(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	for _, name := range []string{"api", "gone"} {
		v := &records.Service{Service: service.Service{Name: name, Network: "web"}}
		if err := s.PutService(v); err != nil {
			t.Fatal(err)
		}
		claimText(l, ipam.Request{Owner: v.Owner()}, cfg)
	}
	if err := s.RemoveService("web", "gone"); err != nil {
		t.Fatal(err)
	}
	claimText(l, request("c1"), cfg)
	want(t, claimText(l, request("c2", "10.1.0.2"), cfg), "error 101: Address already in use: 10.1.0.2 is leased to service api")
	gone, err := l.ReleaseExcept(func(wire.Attachment) bool { return false })
	want(t, fmt.Sprint(gone, err), "[web _service/gone web c1/eth0] <nil>")
	reboot(t, s.Run)
	want(t, strings.Join(verify(t, l), ", "), "10.1.0.2 _service")
	if found, err := l.Orphaned(); err != nil || found != nil {
		t.Errorf("orphaned: %v, %v", found, err)
	}
}
