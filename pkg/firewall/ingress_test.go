package firewall

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

func tasks(words ...string) (list []netip.AddrPort) {
	for _, w := range words {
		list = append(list, netip.MustParseAddrPort(w))
	}
	return list
}

func TestTurnLines(t *testing.T) {
	for want, turn := range map[string]Turn{
		"meta l4proto tcp reject with tcp reset\nreject":                                                                                   {Protocol: "udp", Port: 53},
		"tcp flags ! syn reject with tcp reset\nmeta l4proto tcp dnat ip to 10.9.0.1:80":                                                   {Protocol: "tcp", Tasks: tasks("10.9.0.1:80")},
		"tcp flags ! syn reject with tcp reset\nmeta l4proto tcp dnat ip6 to [fd00::1]:80":                                                 {V6: true, Protocol: "tcp", Tasks: tasks("[fd00::1]:80"), Sticky: true},
		"tcp flags ! syn reject with tcp reset\nmeta l4proto tcp dnat ip to numgen inc mod 2 map { 0 : 10.9.0.1 . 80, 1 : 10.9.0.2 . 80 }": {Protocol: "tcp", Tasks: tasks("10.9.0.1:80", "10.9.0.2:80")},
		"tcp flags ! syn reject with tcp reset\nmeta l4proto tcp dnat ip6 to numgen inc mod 2 map { 0 : fd00::1 . 80, 1 : fd00::2 . 80 }":  {V6: true, Protocol: "tcp", Tasks: tasks("[fd00::1]:80", "[fd00::2]:80")},
	} {
		if got := strings.Join(turn.Lines(), "\n"); got != want {
			t.Errorf("%+v:\n%s\nwant\n%s", turn, got, want)
		}
	}
	sticky := Turn{Protocol: "udp", Tasks: tasks("10.9.0.1:80", "10.9.0.2:80"), Sticky: true}
	if got := sticky.Lines()[1]; !strings.HasPrefix(got, "meta l4proto udp dnat ip to jhash ip saddr mod 256 seed 0x64636e69 map { 0 : 10.9.0.") {
		t.Error(got)
	}
	turn := Turn{Owner: Comment(OfService("web", "api")), V6: true, Protocol: "tcp", Port: 8080}
	if got := turn.Element().String(); got != `ingress6 { tcp . 8080 comment "_service _web/api" : jump ingress6-tcp-8080 }` {
		t.Error(got)
	}
	more := turn
	more.Tasks = tasks("[fd00::1]:80")
	if turn.Comment() == more.Comment() || turn.Comment() != (Turn{V6: true}).Comment() {
		t.Error("the comment is no hash of the lines")
	}
}

// TestSlots wants slots spread over tasks, and only those to move whose task goes.
func TestSlots(t *testing.T) {
	all := Turn{Protocol: "tcp", Tasks: tasks("10.9.0.1:80", "10.9.0.2:80", "10.9.0.3:80", "10.9.0.4:80", "10.9.0.5:80"), Sticky: true}
	fewer := all
	gone := all.Tasks[2]
	fewer.Tasks = slices.Delete(slices.Clone(all.Tasks), 2, 3)
	load, after := map[netip.AddrPort]int{}, fewer.Turns()
	for slot, task := range all.Turns() {
		load[task]++
		if task != gone && after[slot] != task {
			t.Errorf("slot %d moved from %s, which stays", slot, task)
		}
	}
	for _, task := range all.Tasks {
		if load[task] < Slots/len(all.Tasks)/2 || load[task] > 2*Slots/len(all.Tasks) {
			t.Errorf("slots by task: %v", load)
		}
	}
}

func TestOwnerWords(t *testing.T) {
	for comment, want := range map[string]string{
		Comment(OfService("web", "api")): "service api of network web", "web c1/eth0": "container c1 on network web", "web#1234": "web#1234", "": "",
	} {
		if got := OwnerWords(comment); got != want {
			t.Errorf("%q: %s, want %s", comment, got, want)
		}
	}
	long := Comment(OfService(strings.Repeat("n", 100), strings.Repeat("s", 63)))
	if !IsOfService(long) || IsOfService("web c1/eth0") || len(long) > maxComment {
		t.Error(long)
	}
	service, container := Comment(OfService("web", "api")), "web c1/eth0"
	for _, c := range []struct{ wants, has, suffix string }{
		{container, container, "allocated"}, {container, service, "allocated to service api of network web"}, {service, container, "allocated to container c1 on network web"},
	} {
		if err := AllocatedTo("0.0.0.0:80", c.wants, c.has); !strings.HasSuffix(err.Error(), c.suffix) {
			t.Error(err)
		}
	}
}

func TestRefused(t *testing.T) {
	one := &Endpoint{Owner: OfService("web", "api"), Ports: []Port{{HostPort: 80, Protocol: "tcp", ContainerPort: 80}}}
	other := &Endpoint{Owner: one.Owner, Ports: []Port{{HostPort: 81, Protocol: "tcp", ContainerPort: 80}}}
	e := &RefusedError{Claims: []*Endpoint{one}, Errs: []error{wire.Errorf(wire.CodePortTaken, "taken")}}
	coded := (*wire.Error)(nil)
	if !e.Has(one) || e.Has(other) || (*RefusedError)(nil).Has(one) || !errors.As(error(e), &coded) || coded.Code != wire.CodePortTaken {
		t.Errorf("%v", e)
	}
	if of := e.Of([]*Endpoint{one}); of == nil || len(of.Errs) != 1 || e.Of([]*Endpoint{other}) != nil || (*RefusedError)(nil).Of([]*Endpoint{one}) != nil {
		t.Errorf("of %v", of)
	}
	by := func(comments ...string) *RefusedError {
		e := &RefusedError{}
		for _, c := range comments {
			e.Errs = append(e.Errs, AllocatedTo("0.0.0.0:80", Comment(one.Owner), c))
		}
		return e
	}
	service, container := Comment(OfService("web", "other")), "web c1/eth0"
	if e.ByServices() || by(service, container).ByServices() || by("").ByServices() || !by(service, service).ByServices() {
		t.Error("who has them is not told apart")
	}
	if err := by(service); !errors.As(err, &coded) || coded.Code != wire.CodePortTaken {
		t.Errorf("%v", err)
	}
}
