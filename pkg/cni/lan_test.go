package cni_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/ipam"
	"dcni/pkg/mode/macvlan"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

const lanConf = `{"cniVersion": "1.1.0", "name": "web", "type": "dmacvlan", "parent": "eth0", "names": {},
	"ipam": {"type": "dipam", "subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}, {"subnet": "fd00:1::/64", "gateway": "fd00:1::1"}]}, "runtimeConfig": {%s}}`

// others says which addresses machines on the LAN have.
func others(list ...string) map[netip.Addr]string {
	m := map[netip.Addr]string{}
	for _, a := range list {
		m[netip.MustParseAddr(a)] = "02:00:00:00:00:99"
	}
	return m
}

// A container gets the next address where a machine on the LAN has one, in each family
// by itself. The next container does not ask for it again.
func TestConflictNextAddress(t *testing.T) {
	conf := fmt.Sprintf(lanConf, "")
	w := cnitest.NewWorld(t, macvlan.Plugin)
	w.Others = others("10.1.0.2", "10.1.0.3", "fd00:1::4")
	var again []bool
	w.Engine.LAN = asking{w.Engine.LAN, func(d wire.Detection) { again = append(again, d.Again) }}
	for _, c := range []struct{ container, want string }{
		{"c1", "10.1.0.4/24 fd00:1::2/64"},
		{"c2", "10.1.0.5/24 fd00:1::3/64"},
		{"c3", "10.1.0.6/24 fd00:1::5/64"},
	} {
		result, err := w.Engine.Add(w.Request(t, c.container, conf))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, ip := range result.IPs {
			got = append(got, ip.Address.String())
			if !strings.Contains(w.Host.String(), "addr "+ip.Address.String()+" dev eth0") {
				t.Errorf("%s is not on the machine:\n%s", ip.Address.String(), w.Host)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s has %v, want %s", c.container, got, c.want)
		}
	}
	if want := []bool{false, true, true, false, false, true}; !slices.Equal(again, want) {
		t.Errorf("the LAN was asked, for another address: %v, want %v", again, want)
	}
	if n := strings.Count(w.Host.String(), "type macvlan"); n != 3 {
		t.Errorf("%d links for 3 containers:\n%s", n, w.Host)
	}
}

// asking tells what the LAN is asked.
type asking struct {
	cni.LAN
	what func(wire.Detection)
}

func (a asking) Detect(d wire.Detection) (wire.Waiter, error) {
	a.what(d)
	return a.LAN.Detect(d)
}

// An ADD that can't have another address fails, and leaves nothing.
func TestConflictRefused(t *testing.T) {
	var many []string
	for i := 2; i < 20; i++ {
		many = append(many, fmt.Sprintf("fd00:1::%x", i))
	}
	for _, c := range []struct {
		name, runtime string
		taken         []string
		foreign       bool // the addresses are of another IPAM plugin
		code          wire.Code
		text          string
	}{
		{"asked for", `"ips": ["10.1.0.9"]`, []string{"10.1.0.9"}, false, wire.CodeAddressTaken,
			"Address already in use: 10.1.0.9 is used by 02:00:00:00:00:99 on the LAN"},
		{"asked for, IPv6", `"ips": ["fd00:1::9"]`, []string{"fd00:1::9"}, false, wire.CodeAddressTaken,
			"Address already in use: fd00:1::9 is used by 02:00:00:00:00:99 on the LAN"},
		{"of another plugin", "", []string{"10.1.0.2"}, true, wire.CodeAddressTaken, "10.1.0.2 is used by"},
		{"all are taken", "", many, false, wire.CodeTryAgain,
			"network web: the 10 addresses that were tried are used by others, the last, fd00:1::b, by 02:00:00:00:00:99 on the LAN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := cnitest.NewWorld(t, macvlan.Plugin)
			w.Others = others(c.taken...)
			if c.foreign {
				source := w.Engine.Source
				w.Engine.Source = func(d network.Description) cni.Addresses { return struct{ cni.Addresses }{source(d)} }
			}
			before := w.State(t)
			_, err := w.Engine.Add(w.Request(t, "c1", fmt.Sprintf(lanConf, c.runtime)))
			var coded *wire.Error
			if !errors.As(err, &coded) || coded.Code != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v; want code %d and %q", err, c.code, c.text)
			}
			if after := w.State(t); after != before {
				t.Errorf("left:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// An address that a container of another network on the same parent has is refused by the name of
// that one: whether the LAN or the kernel tells of it.
func TestTakenByOwn(t *testing.T) {
	for name, c := range map[string]struct {
		parent string // of the other network
		kernel bool   // it tells
		want   string
	}{
		"heard on the LAN": {"eth0", false, "Address already in use: 10.1.0.9 is leased to other c0/eth0"},
		"another parent":   {"eth1", false, "Address already in use: 10.1.0.9 is used by 02:00:00:00:00:99 on the LAN"},
		"the kernel's":     {"eth0", true, "Address already in use: 10.1.0.9 is leased to other c0/eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			w := cnitest.NewWorld(t, macvlan.Plugin)
			err := w.Store.Put(&records.Record{
				Attachment: wire.Attachment{Network: "other", Container: "c0", IfName: "eth0"}, Plugin: "dmacvlan", State: records.Up,
				Parent:    &network.Parent{Kind: wire.KindMacvlan, Name: c.parent, Mode: "bridge"},
				Addresses: []ipam.Assigned{{Address: netip.MustParsePrefix("10.1.0.9/24")}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if c.kernel {
				w.Host.Step = func(verb string, o wire.Object) error {
					if a, ok := o.(*wire.Addr); ok && verb == "ensure" {
						return &wire.Error{Code: wire.CodeAddressTaken, Msg: "another's", Taken: a.Prefix.Addr()}
					}
					return nil
				}
			} else {
				w.Others = others("10.1.0.9")
			}
			_, err = w.Engine.Add(w.Request(t, "c1", fmt.Sprintf(lanConf, `"ips": ["10.1.0.9"]`)))
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v; want %s", err, c.want)
			}
		})
	}
}

// An address that another program's ipvlan on the parent has is remembered, and the next one
// taken; one that was asked for is refused.
func TestTakenBeside(t *testing.T) {
	for runtime, want := range map[string]string{"": "10.1.0.3", `"ips": ["10.1.0.2"]`: ""} {
		w := cnitest.NewWorld(t, macvlan.Plugin)
		w.Host.Step = func(verb string, o wire.Object) error {
			if a, ok := o.(*wire.Addr); ok && verb == "ensure" && a.Prefix.Addr().String() == "10.1.0.2" {
				return &wire.Error{Code: wire.CodeAddressTaken, Msg: "10.1.0.2 is another's", Taken: a.Prefix.Addr()}
			}
			return nil
		}
		before := w.State(t)
		_, err := w.Engine.Add(w.Request(t, "c1", fmt.Sprintf(lanConf, runtime)))
		if want == "" {
			if err == nil || err.Error() != "10.1.0.2 is another's" || w.State(t) != before {
				t.Errorf("%v, left:\n%s", err, w.State(t))
			}
		} else if err != nil || !strings.Contains(w.Host.String(), "addr "+want) {
			t.Errorf("%v, has\n%s", err, w.Host)
		}
	}
}

// While the LAN is asked, what needs no address is made, and no address is there.
func TestConflictBeside(t *testing.T) {
	w := cnitest.NewWorld(t, macvlan.Plugin)
	asked, waits, before := "", 0, w.Engine.LAN
	w.Engine.LAN = sandboxes{before, func() { asked = w.Host.String(); waits++ }}
	if _, err := w.Engine.Add(w.Request(t, "c1", fmt.Sprintf(lanConf, ""))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"link eth0 up", "nameserver 127.0.0.11", "arp_notify=1", "accept_dad=0"} {
		if !strings.Contains(asked, want) {
			t.Errorf("while the LAN is asked there is no %s:\n%s", want, asked)
		}
	}
	if strings.Contains(asked, "dev eth0") && strings.Contains(asked, "addr 10.1.0.2") {
		t.Errorf("while the LAN is asked there is an address:\n%s", asked)
	}
	if waits != 1 {
		t.Errorf("the LAN was asked %d times", waits)
	}
}

// sandboxes calls a function when ADD waits for a LAN.
type sandboxes struct {
	cni.LAN
	waits func()
}

func (s sandboxes) Detect(d wire.Detection) (wire.Waiter, error) {
	w, err := s.LAN.Detect(d)
	return waiter{w, s.waits}, err
}

type waiter struct {
	wire.Waiter
	waits func()
}

func (w waiter) Wait() ([]wire.Conflict, error) {
	w.waits()
	return w.Waiter.Wait()
}

// Healing asks the LAN before it puts an address back: one that a machine has taken since
// stays away, with what leads there, until that machine is gone.
func TestHealAsksLAN(t *testing.T) {
	w := cnitest.NewWorld(t, macvlan.Plugin)
	for _, container := range []string{"c1", "c2"} {
		if _, err := w.Engine.Add(w.Request(t, container, fmt.Sprintf(lanConf, ""))); err != nil {
			t.Fatal(err)
		}
	}
	before, asked := w.Host.String(), w.Engine.LAN
	waits := 0
	w.Engine.LAN = sandboxes{asked, func() { waits++ }}
	heal := func() (list []string) {
		if err := w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) { list = append(list, e.Container+" "+e.Object+": "+e.Error) }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := heal(); len(list) > 0 || waits > 0 {
		t.Errorf("nothing is lost; %d questions, healed %v", waits, list)
	}
	for _, key := range w.Host.Keys() {
		if strings.HasPrefix(key, "link eth0 netns ") { // as where their parent is deleted
			w.Host.Lose(key)
		}
	}
	w.Others = others("10.1.0.2")
	list := strings.Join(heal(), "\n")
	for _, want := range []string{
		"c1 addr 10.1.0.2/24 dev eth0 in sandbox: is used by 02:00:00:00:00:99 on the LAN",
		"c1 addr fd00:1::2/64 dev eth0 in sandbox: ", "c2 addr 10.1.0.3/24 dev eth0 in sandbox: ",
	} {
		if !strings.Contains(list+"\n", want+"\n") {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	if now := w.Host.String(); waits != 2 || strings.Contains(now, "addr 10.1.0.2/") || strings.Count(now, "route default ") != 1 || strings.Count(now, "route -6 default ") != 2 {
		t.Errorf("%d questions, then\n%s", waits, now)
	}
	w.Others = nil
	heal()
	if now := w.Host.String(); now != before {
		t.Errorf("healed:\n%s\nbefore:\n%s", now, before)
	}
}
