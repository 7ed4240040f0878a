package nft

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/wire"
)

// frames lists the table without its rules' comments.
func frames(t *testing.T) string {
	t.Helper()
	return strings.ReplaceAll(hosttest.NFT(t, "list", "table", "bridge", "dcni"), ` comment "frames 1"`, "")
}

// nft lists the table of frames as it is said.
func TestFramesListAsSaid(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		if err := f.ProbeFrames(); err != nil {
			t.Error(err)
		}
		if _, err := f.Ensure(&firewall.FrameRules{}); err != nil {
			t.Fatal(err)
		}
		if got, want := frames(t), strings.ReplaceAll(firewall.FrameTable().String(), ` comment "frames 1"`, ""); got != want {
			t.Errorf("nft lists\n%s\nwant\n%s", got, want)
		}
	})
}

// The rules come back with the ports that are known, whatever was done to them; a port is in
// the sets as it is said, and what is of others stays.
func TestFrames(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		own := func(container, mac string, addresses ...string) *firewall.BridgePort {
			a := wire.Attachment{Network: "web", Container: container, IfName: "eth0"}
			p := &firewall.BridgePort{Owner: a, Link: a.HostLink(), MAC: mac, Apart: true, Checked: true}
			for _, text := range addresses {
				p.Addresses = append(p.Addresses, netip.MustParseAddr(text))
			}
			return p
		}
		c1 := own("c1", "02:42:0a:01:00:02", "10.1.0.2", "fd00:1::2", "fe80::42:aff:fe01:2")
		c2 := own("c2", "02:42:0a:01:00:03", "10.1.0.3")
		rules := &firewall.FrameRules{Known: []*firewall.BridgePort{c1, c2}}
		ensure := func(o wire.Object, want bool) {
			t.Helper()
			if changed, err := f.Ensure(o); changed != want || err != nil {
				t.Errorf("ensure %s: %t, %v", o, changed, err)
			}
			if err := f.Check(o); err != nil {
				t.Errorf("check %s: %v", o, err)
			}
		}
		if _, err := f.Ensure(c2); err == nil {
			t.Error("a port without rules")
		}
		for _, harm := range []string{
			"delete table bridge dcni", "flush table bridge dcni", "flush chain bridge dcni sender6", "insert rule bridge dcni forward accept",
			"table bridge dcni { flags dormant; }", "flush ruleset",
		} {
			ensure(rules, true)
			ensure(rules, false)
			ensure(c1, false)
			ensure(c2, false)
			hosttest.NFT(t, harm)
			if f.Check(rules) == nil {
				t.Errorf("after %s the rules are as they were", harm)
			}
		}
		ensure(rules, true)

		for _, harm := range []string{"delete element bridge dcni macs { " + c1.Link + " . 02:42:0a:01:00:02 }", "flush set bridge dcni checked", "flush set bridge dcni addresses6"} {
			hosttest.NFT(t, harm)
			if f.Check(c1) == nil {
				t.Errorf("after %s the port is as it was", harm)
			}
			ensure(c1, true)
		}
		ensure(c2, true)

		apart := *c2
		apart.Checked = false
		ensure(&apart, true)
		if f.Check(c2) == nil {
			t.Error("a port that is not checked is as one that is")
		}

		if err := f.Remove(rules); err != nil || f.Check(c1) != nil {
			t.Errorf("the table goes with ports in it: %v, %v", err, f.Check(c1))
		}
		for _, o := range []wire.Object{c1, c1, &firewall.BridgePort{Owner: c2.Owner, Link: c2.Link}, &firewall.Owned{Comment: c2.Comment(), Port: true}, rules, rules} {
			if err := f.Remove(o); err != nil {
				t.Errorf("remove %s: %v", o, err)
			}
		}
		if out := hosttest.NFT(t, "list", "tables"); strings.Contains(out, "bridge") {
			t.Errorf("left: %s", out)
		}
	})
}
