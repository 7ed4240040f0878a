package nft

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
)

// web returns what a service has at a port, with tasks.
func ingressOf(network, name string, port uint16, sticky bool, four ...string) *firewall.Ingress {
	owner := firewall.OfService(network, name)
	in := &firewall.Ingress{Network: network, Claims: []*firewall.Endpoint{{
		Owner: owner, Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.100"), netip.MustParseAddr("fd00::64")},
		Ports: []firewall.Port{{HostPort: port, Protocol: "tcp", ContainerPort: 80}},
	}}}
	for _, six := range []bool{false, true} {
		turn := firewall.Turn{Owner: firewall.Comment(owner), V6: six, Protocol: "tcp", Port: port, Sticky: sticky}
		for _, a := range four {
			to := netip.MustParseAddr(a)
			if six {
				to = netip.MustParseAddr("fd00::" + a[strings.LastIndexByte(a, '.')+1:])
			}
			turn.Tasks = append(turn.Tasks, netip.AddrPortFrom(to, 80))
		}
		in.Turns = append(in.Turns, turn)
	}
	return in
}

// TestIngress wants what is in the kernel to be listed as the rules are said, changed where it differs
// and only there, and gone with the service.
func TestIngress(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		before := hosttest.NFT(t, "list", "table", "inet", "dcni")
		for _, in := range []*firewall.Ingress{
			ingressOf("web", "api", 8080, false), ingressOf("web", "api", 8080, false, "10.9.0.1"), ingressOf("web", "api", 8080, false, "10.9.0.1", "10.9.0.2"),
			ingressOf("web", "api", 8080, true, "10.9.0.1", "10.9.0.2"), ingressOf("web", "api", 8081, false, "10.9.0.1", "10.9.0.3"),
		} {
			if err := f.Check(in); err == nil {
				t.Errorf("%s: nothing is missing", in)
			}
			for i, want := range []bool{true, false} {
				if changed, err := f.Ensure(in); changed != want || err != nil {
					t.Errorf("%s: ensure %d: changed %v, error %v", in, i, changed, err)
				}
			}
			if err := f.Check(in); err != nil {
				t.Errorf("%s: %v", in, err)
			}
			got := hosttest.NFT(t, "list", "table", "inet", "dcni")
			for _, turn := range in.Turns {
				lines := turn.Lines()
				chain := "chain " + turn.Chain() + " {\n"
				for _, line := range lines {
					chain += "\t\t" + line + " comment \"" + turn.Comment() + "\"\n"
				}
				if plain := strings.ReplaceAll(strings.ReplaceAll(got, ",\n\t\t\t     ", ", "), "\n\t\t\t", ""); !turn.Sticky && !strings.Contains(plain, chain) {
					t.Errorf("no\n%s in\n%s", chain, got)
				}
			}
			saved := filepath.Join(t.TempDir(), "saved.nft")
			if err := os.WriteFile(saved, []byte("delete table inet dcni\n"+got), 0o600); err != nil {
				t.Fatal(err)
			}
			hosttest.NFT(t, "-f", saved)
			if err := f.Check(in); err != nil {
				t.Errorf("%s, saved and loaded again: %v", in, err)
			}
			if n := strings.Count(got, "chain ingress"); n != 2 {
				t.Errorf("%d chains in\n%s", n, got)
			}
		}
		in := ingressOf("web", "api", 8081, false, "10.9.0.1", "10.9.0.3")
		other := ingressOf("lab", "other", 9090, false, "10.9.0.1")
		if _, err := f.Ensure(other); err != nil {
			t.Error(err)
		}
		// Another program takes parts of it.
		for _, loss := range [][]string{
			{"flush", "chain", "inet", "dcni", "ingress4-tcp-8081"}, {"delete", "element", "inet", "dcni", "ingress4", "{ tcp . 8081 }"},
			{"delete", "element", "inet", "dcni", "ports6", "{ tcp . 8081 }"}, {"delete", "element", "inet", "dcni", "guarded4", "{ tcp . 8081 }"},
			{"add", "rule", "inet", "dcni", "ingress6-tcp-8081", "accept"}, {"add", "chain", "inet", "dcni", "ingress4-tcp-7"},
		} {
			hosttest.NFT(t, loss...)
			if err := f.Check(in); err == nil && loss[1] != "chain" {
				t.Errorf("%v: nothing is missing", loss)
			}
			if _, err := f.Ensure(in); err != nil {
				t.Errorf("%v: %v", loss, err)
			}
			if err := errors.Join(f.Check(in), f.Check(other)); err != nil {
				t.Errorf("%v: %v", loss, err)
			}
		}
		hosttest.NFT(t, "delete", "chain", "inet", "dcni", "ingress4-tcp-7")
		// A container can't have the port, nor another service.
		_, err := f.EnsureEndpoint(hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("127.0.0.1", 8081, "tcp", 80)))
		if err == nil || !strings.Contains(err.Error(), "port is already allocated to service api of network web") {
			t.Errorf("error %v", err)
		}
		if _, err := f.EnsureEndpoint(hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("127.0.0.1", 8082, "tcp", 80))); err != nil {
			t.Error(err)
		}
		refused := (*firewall.RefusedError)(nil)
		wants := ingressOf("net", "third", 8082, false)
		if _, err := f.Ensure(wants); !errors.As(err, &refused) || !strings.Contains(err.Error(), "allocated to container c1 on network web") {
			t.Errorf("error %v", err)
		}
		if err := f.Check(wants); err != nil {
			t.Errorf("what can't be had is a difference: %v", err)
		}
		if got := hosttest.NFT(t, "list", "map", "inet", "dcni", "ingress4"); strings.Contains(got, "8082") {
			t.Errorf("what the container publishes leads to tasks:\n%s", got)
		}
		// The port goes to another service of the network, and to one of the same name with another address.
		next, moved := ingressOf("web", "next", 8081, false, "10.9.0.1"), ingressOf("web", "next", 8081, false, "10.9.0.1")
		for _, c := range moved.Claims {
			c.Addresses[0] = c.Addresses[0].Next()
		}
		for _, in := range []*firewall.Ingress{next, moved} {
			if _, err := f.Ensure(in); err != nil {
				t.Error(err)
			}
			if got, want := hosttest.NFT(t, "list", "map", "inet", "dcni", "ports4"), `tcp . 8081 comment "_service _web/next" : `+in.Claims[0].Addresses[0].String(); !strings.Contains(got, want) {
				t.Errorf("no %s in\n%s", want, got)
			}
			if err := f.Check(in); err != nil {
				t.Error(err)
			}
		}
		for _, in := range []*firewall.Ingress{moved, other, wants} {
			if err := f.Remove(in); err != nil {
				t.Error(err)
			}
		}
		if err := f.RemoveEndpoint(hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("127.0.0.1", 8082, "tcp", 80))); err != nil {
			t.Error(err)
		}
		if _, err := f.Ensure(wants); err != nil {
			t.Errorf("the container has gone: %v", err)
		}
		if got := hosttest.NFT(t, "list", "map", "inet", "dcni", "ingress4"); !strings.Contains(got, "8082") {
			t.Errorf("nothing leads to tasks:\n%s", got)
		}
		if err := f.Remove(wants); err != nil {
			t.Error(err)
		}
		if got := hosttest.NFT(t, "list", "table", "inet", "dcni"); got != before {
			t.Errorf("after removal:\n%s", got)
		}
	})
}

// TestSenders wants another node's MACs to be put in, told of and taken out, those of one bridge.
func TestSenders(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		before := hosttest.NFT(t, "list", "table", "inet", "dcni")
		one := &firewall.Sender{Network: "web", Bridge: "br-a", MAC: "02:42:00:00:00:01", Mark: 0x12340000}
		other := &firewall.Sender{Network: "lab", Bridge: "br-b", MAC: "02:42:00:00:00:01", Mark: 0x12340000}
		moved := *one
		moved.Mark = 0x43210000
		for _, s := range []*firewall.Sender{one, other, &moved} {
			if err := f.Check(s); err == nil {
				t.Errorf("%s: nothing is missing", s)
			}
			for i, want := range []bool{true, false} {
				if changed, err := f.Ensure(s); changed != want || err != nil {
					t.Errorf("%s: ensure %d: changed %v, error %v", s, i, changed, err)
				}
			}
			if err := f.Check(s); err != nil {
				t.Error(err)
			}
			if got := hosttest.NFT(t, "list", "map", "inet", "dcni", "senders"); !strings.Contains(got, strings.TrimSuffix(strings.TrimPrefix(s.Element().String(), "senders { "), " }")) {
				t.Errorf("no %s in %s", s, got)
			}
		}
		if list, err := f.Senders("br-a"); err != nil || len(list) != 1 || *list[0] != moved {
			t.Errorf("%v, %v", list, err)
		}
		for _, s := range []*firewall.Sender{one, other, one} {
			if err := f.Remove(s); err != nil {
				t.Error(err)
			}
		}
		if got := hosttest.NFT(t, "list", "table", "inet", "dcni"); got != before {
			t.Errorf("after removal:\n%s", got)
		}
	})
}
