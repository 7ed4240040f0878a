package records

import (
	"fmt"
	"os"
	"testing"

	"dcni/pkg/network"
	"dcni/pkg/service"
)

// TestIngress wants the networks that the node itself is on, also those where it is no more than half so, and none of
// them to look like a container's.
func TestIngress(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	if on, err := s.Ingress(); err != nil || len(on) != 0 {
		t.Errorf("at first: %v, %v", on, err)
	}
	if err := os.MkdirAll(s.ingressDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string]State{"web": Up, "lab": Adding, "dev": "", "away": Up} {
		target := "/proc/self/ns/net" // in place of a mount
		if name == "away" {
			target = "/proc/self/status"
		}
		if err := os.Symlink(target, s.IngressNetNS(name)); err != nil {
			t.Fatal(err)
		}
		r := &Record{Attachment: service.IngressOf(name), Plugin: "doverlay", State: state, Creator: ByIngress, Overlay: &network.Overlay{Generation: 7}}
		if state == "" {
			continue
		}
		if err := s.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	on, err := s.Ingress()
	if want := "map[away:0 dev:0 lab:0 web:7]"; err != nil || fmt.Sprint(on) != want {
		t.Errorf("%v, %v, want %s", on, err, want)
	}
	if list, err := s.List(""); err != nil || len(list) != 3 || len(Interfaces(list)) != 0 {
		t.Errorf("%d records, %d of containers, %v", len(list), len(Interfaces(list)), err)
	}
}
