package services

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"dcni/pkg/host/hosttest"
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
	client := func(name string) records.Client {
		owner := wire.Attachment{Network: "web", Container: name, IfName: "eth0"}
		return records.Client{Endpoint: service.Endpoint{Owner: owner}, Up: records.Moment{SinceBoot: time.Second}, NetNS: dir + "/" + name, Cookie: 7, Leads: true}
	}
	key := func(r records.Client) madeKey { return madeKey{r.Owner, r.Cookie, r.Up} }
	same, other, later, gone, plain := client("same"), client("other"), client("later"), client("gone"), client("plain")
	plain.Leads = false
	b, was := balancer("10.9.0.11"), balancer("10.9.0.12")
	now := &b
	made := Made{key(same): now, key(other): &was, key(later): now, key(gone): now}
	later.Up.SinceBoot++
	if err := h.syncClients([]records.Client{same, other, later, plain}, balancer("10.9.0.11"), made); err != nil {
		t.Error(err)
	}
	if len(made) != 1 || made[key(same)] != now {
		t.Errorf("left: %v, want only %v", made, key(same))
	}
	if err := h.syncClients([]records.Client{same}, was, made); err != nil || len(made) != 0 {
		t.Errorf("left after a change: %v, %v", made, err)
	}
}

// balancer returns that of a network with two services, of which one has tasks.
func balancer(tasks ...string) service.Balancer {
	n := service.Network{Name: "web", Services: []service.Service{
		{Name: "api", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.100")}}, {Name: "db", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.101")}},
	}}
	for _, a := range tasks {
		n.Endpoints = append(n.Endpoints, service.Endpoint{Name: a, Names: []string{"api"}, Addresses: []netip.Addr{netip.MustParseAddr(a)}})
	}
	return n.Balancer()
}

// TestKnown wants a change of a client whose rules are known to list none of them: what another program has done
// to those of other services stays, until the table is gone, and then all is made again.
func TestKnown(t *testing.T) {
	set, err := spaces.New()
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	hosttest.InSandbox(t, func(path string, cookie uint64) {
		dir := t.TempDir()
		h, made := Services{Set: set, Records: records.Store{Run: dir, Lib: dir}}, Made{}
		owner := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
		r := records.Client{Endpoint: service.Endpoint{Owner: owner}, NetNS: path, Cookie: cookie, Leads: true}
		l := service.LayoutOf("web", false)
		for _, c := range []struct {
			harm  string
			tasks string
			rules int // with those at the hook
		}{
			{"", "10.9.0.11", 5},
			{"flush chain ip dcni " + service.Chain("web", "db"), "10.9.0.12", 3},
			{"delete table ip dcni", "10.9.0.13", 5},
		} {
			if c.harm != "" {
				hosttest.NFT(t, strings.Fields(c.harm)...)
			}
			if err := h.syncClients([]records.Client{r}, balancer(c.tasks), made); err != nil {
				t.Fatal(err)
			}
			out := hosttest.NFT(t, "list", "table", "ip", "dcni")
			if got := strings.Count(out, `comment "`+service.Comment); got != c.rules || !strings.Contains(out, "dnat to "+c.tasks+" ") || !strings.Contains(out, "chain "+l.Chain) {
				t.Errorf("after %q: %d rules, want %d and %s:\n%s", c.harm, got, c.rules, c.tasks, out)
			}
		}
	})
}
