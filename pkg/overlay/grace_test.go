package overlay_test

import (
	"net/netip"
	"sync"
	"testing"

	"dcni/pkg/overlay"
)

// day0 is when nodes die in these tests.
const day0 = 1_767_323_045

// mortal has all nodes alive at first, on a clock of the test's. Nodes die by die, and are
// back by back.
type mortal struct {
	testing.TB
	cluster []overlay.Cluster
	now     int64
}

func newMortal(t testing.TB, nodes int) *mortal {
	m := &mortal{TB: t, cluster: newCluster(t, nodes), now: day0}
	for i := range m.cluster {
		m.cluster[i].Now = func() int64 { return m.now }
		write(t, m.cluster[i].Store, keys.Alive(m.cluster[i].Node), overlay.Alive{})
	}
	return m
}

func (m *mortal) die(node string) {
	m.Helper()
	_, _, err := m.cluster[0].Store.Commit(m.Context(), overlay.Txn{Then: []overlay.Change{{Key: keys.Alive(node), Delete: true}}})
	must(m, err)
	m.note()
}

func (m *mortal) note() {
	m.Helper()
	_, err := m.cluster[0].NoteDeaths(m.Context(), overlay.Grace)
	must(m, err)
}

// back is what a node does that comes back. It returns what is another's by now.
func (m *mortal) back(c overlay.Cluster, network string, running ...overlay.Endpoint) []overlay.Conflict {
	m.Helper()
	must(m, c.Return(m.Context()))
	conflicts, err := c.Recover(m.Context(), network, running)
	must(m, err)
	write(m, c.Store, keys.Alive(c.Node), overlay.Alive{})
	m.note()
	return conflicts
}

func runs(container string, addresses ...string) overlay.Endpoint {
	ep := overlay.Endpoint{MAC: "02:42:0a:01:00:02", Container: container, IfName: "eth0", Name: container, Names: []string{container}}
	for _, a := range addresses {
		ep.Addresses = append(ep.Addresses, netip.MustParseAddr(a))
	}
	return ep
}

// A dead node keeps its addresses for a day. Then they are taken, where no other is free.
func TestGrace(t *testing.T) {
	m := newMortal(t, 3)
	a, b, c := m.cluster[0], m.cluster[1], m.cluster[2]
	create(t, a, "web", "10.1.0.0/29") // of five addresses
	claim(t, b, "web", "b1", "10.1.0.3")
	claim(t, b, "web", "b2", "10.1.0.4")
	claim(t, c, "web", "c1", "10.1.0.5")
	m.die("b")
	m.die("c")
	claim(t, a, "web", "a1")
	claim(t, a, "web", "a2")
	full := func(when string) {
		t.Helper()
		_, err := a.Claim(t.Context(), asking("web", "a3"))
		wantError(t, err, 11, "no available IPv4 addresses")
		_, err = a.Claim(t.Context(), asking("web", "a3", "10.1.0.4"))
		wantError(t, err, 101, "10.1.0.4 is claimed by b2/eth0 on node b")
		if err := a.RemoveNetwork(t.Context(), "web"); err == nil {
			t.Error(when, "the network is removed")
		}
		consistent(t, a.Store, "web")
	}
	full("at once:")
	m.now = day0 + overlay.Grace - 1
	m.note() // which changes nothing
	full("at the last second:")

	// c is back in time, and b is not.
	if conflicts := m.back(c, "web", runs("c1", "10.1.0.5")); len(conflicts) > 0 {
		t.Error(conflicts)
	}
	m.now = day0 + overlay.Grace
	must(t, a.Release(t.Context(), attachment("web", "a1")))
	free := claim(t, a, "web", "a4")
	if got := address(free); got == "10.1.0.3/29" || got == "10.1.0.4/29" {
		t.Errorf("%s is taken while another is free", got)
	}
	if got := address(claim(t, a, "web", "a5", "10.1.0.4")); got != "10.1.0.4/29" {
		t.Error(got)
	}
	if got := address(claim(t, a, "web", "a6")); got != "10.1.0.3/29" {
		t.Errorf("%s is taken in place of the last dead node's", got)
	}
	_, err := a.Claim(t.Context(), asking("web", "a7"))
	wantError(t, err, 11, "no available IPv4 addresses")
	consistent(t, a.Store, "web")
	conflicts := m.back(b, "web", runs("b1", "10.1.0.3"), runs("b2", "10.1.0.4"))
	if len(conflicts) != 2 || conflicts[1].Owner != "a5/eth0 on node a" {
		t.Errorf("conflicts are %v", conflicts)
	}
	if left := entries(t, a.Store, keys.Dead("")); len(left) > 0 {
		t.Errorf("all are alive, and there are %v", left)
	}
}

// A node that comes back after its time has what no node needed.
func TestGraceUnneeded(t *testing.T) {
	m := newMortal(t, 2)
	a, b := m.cluster[0], m.cluster[1]
	create(t, a, "web", "10.1.0.0/24")
	claim(t, b, "web", "b1", "10.1.0.9")
	m.die("b")
	m.now = day0 + 10*overlay.Grace
	claim(t, a, "web", "a1")
	if conflicts := m.back(b, "web", runs("b1", "10.1.0.9")); len(conflicts) > 0 {
		t.Error(conflicts)
	}
	consistent(t, a.Store, "web")

	// Dead again, it has a new day.
	m.die("b")
	m.now = m.now + overlay.Grace - 1
	wantError(t, a.RemoveNetwork(t.Context(), "web"), 0, "active endpoints")
	must(t, a.Release(t.Context(), attachment("web", "a1")))
	wantError(t, a.RemoveNetwork(t.Context(), "web"), 0, "on node b")
	m.now = m.now + 1
	must(t, a.RemoveNetwork(t.Context(), "web"))
	if left := entries(t, a.Store, keys.Prefix+"ep/"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	must(t, a.RemoveNode(t.Context(), "b"))
	if left := entries(t, a.Store, keys.Dead("")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A node is back just when another would take what it has: it is never taken.
func TestGraceBack(t *testing.T) {
	m := newMortal(t, 2)
	a, b := m.cluster[0], m.cluster[1]
	create(t, a, "web", "10.1.0.0/30")
	claim(t, b, "web", "b1")
	m.die("b")
	m.now = day0 + overlay.Grace
	a.Store = &between{a.Store, keys.Endpoint("web", "b", overlay.AttachmentKey(attachment("web", "b1"))), func() { must(t, b.Return(t.Context())) }}
	_, err := a.Claim(t.Context(), asking("web", "a1"))
	wantError(t, err, 11, "no available IPv4 addresses")
	consistent(t, b.Store, "web")
	if n := len(entries(t, b.Store, keys.Prefix+"ep/")); n != 1 {
		t.Errorf("%d endpoints", n)
	}
}

// Twenty nodes need a dead one's sixty addresses at once: each gets its own, and none is
// given twice.
func TestGraceAtOnce(t *testing.T) {
	m := newMortal(t, 21)
	dead := m.cluster[20]
	create(t, dead, "web", "10.1.0.0/26") // of 61
	for i := range 60 {
		claim(t, dead, "web", string(rune('A'+i%26))+string(rune('a'+i/26)))
	}
	m.die(dead.Node)
	m.now = day0 + overlay.Grace
	var all sync.WaitGroup
	var mu sync.Mutex
	given := map[string]bool{}
	for _, c := range m.cluster[:20] {
		all.Go(func() {
			for _, name := range []string{"x", "y", "z"} {
				got, err := c.Claim(t.Context(), asking("web", name+c.Node))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				given[address(got)] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(given) != 60 {
		t.Errorf("%d addresses were given", len(given))
	}
	consistent(t, dead.Store, "web")
}
