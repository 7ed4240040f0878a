package leases

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// model is what leases should be: a plain map.
type model struct {
	leases map[string][]netip.Addr // by container
	kept   map[string][]netip.Addr // by name, sticky only
}

func (m *model) holder(a netip.Addr) string {
	for c, addrs := range m.leases {
		if slices.Contains(addrs, a) {
			return c
		}
	}
	return ""
}

// tick is longer than the steps of coarse file times, such as those of a tmpfs: within one,
// a session does not see what an operator removed.
const tick = 11 * time.Millisecond

// TestModel runs random operations, each through newly opened leases, against
// the map. The subnet is small, so it is full much of the time, and the IPv6
// one begins at the end of a page.
func TestModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			cfg := config(t, "10.1.0.0/28", "10.2.0.0/30", "fd00:1::/64")
			cfg.Subnets[2].Range = netip.MustParsePrefix("fd00:1::7ff0/124")
			cfg.Sticky = seed%3 == 2
			if seed%2 == 1 {
				cfg.Allocation = ipam.Lowest
			}
			s, m := testStore(t), &model{map[string][]netip.Addr{}, map[string][]netip.Addr{}}
			for step := range 400 {
				m.step(t, r, s, cfg)
				if t.Failed() {
					t.Fatalf("at step %d", step)
				}
			}
		})
	}
}

func (m *model) step(t *testing.T, r *rand.Rand, s records.Store, cfg ipam.Config) {
	l, c := Of(s, "", "web"), fmt.Sprint("c", r.IntN(20))
	switch n := r.IntN(100); {
	case n < 55:
		m.claim(t, l, cfg, request(c))
	case n < 65:
		m.claim(t, l, cfg, request(c, fmt.Sprint("10.1.0.", r.IntN(18))))
	case n < 90:
		if err := l.Release(owner(c)); err != nil {
			t.Error(err)
		}
		delete(m.leases, c)
	case n < 93:
		reboot(t, s.Run)
		clear(m.leases)
	case n < 96:
		time.Sleep(tick)
		for a := range m.leases { // by hand, but all of the owner's
			for _, addr := range m.leases[a] {
				os.Remove(l.dir + "/" + addr.String())
			}
			delete(m.leases, a)
			break
		}
	default:
		l.ReleaseExcept(func(a wire.Attachment) bool { return a.Container != c })
		delete(m.leases, c)
	}
	var expected []string
	for c, addrs := range m.leases {
		for _, a := range addrs {
			expected = append(expected, a.String()+" "+c)
		}
	}
	slices.Sort(expected)
	if got := verify(t, l); !slices.Equal(got, expected) {
		t.Errorf("leases are %v, should be %v", got, expected)
	}
}

func (m *model) claim(t *testing.T, l Leases, cfg ipam.Config, req ipam.Request) {
	delete(m.leases, req.Owner.Container)
	got, err := l.Claim(req, cfg)
	if err != nil {
		m.checkRefusal(t, req, err)
		return
	}
	if len(got) != 2 {
		t.Errorf("claimed %v", got)
	}
	var addrs []netip.Addr
	for _, a := range got {
		if holder := m.holder(a.Address.Addr()); holder != "" {
			t.Errorf("%s is %s's, and given to %s", a.Address, holder, req.Owner)
		}
		addrs = append(addrs, a.Address.Addr())
	}
	m.leases[req.Owner.Container] = addrs
	if !cfg.Sticky {
		return
	}
	if kept := m.kept[req.Owner.Container]; kept != nil && len(req.Static) == 0 && !slices.Equal(kept, addrs) {
		t.Errorf("%s had %v kept and got %v", req.Owner, kept, addrs)
	}
	for name, list := range m.kept { // taken over
		if slices.ContainsFunc(list, func(a netip.Addr) bool { return slices.Contains(addrs, a) }) {
			delete(m.kept, name)
		}
	}
	m.kept[req.Owner.Container] = addrs
}

// checkRefusal says whether a claim was rightly refused.
func (m *model) checkRefusal(t *testing.T, req ipam.Request, err error) {
	v4 := 0
	for _, addrs := range m.leases {
		if addrs[0].Is4() {
			v4++
		}
	}
	switch code(err) {
	case wire.CodeTryAgain: // 13 and one in the second subnet, 16 in IPv6's
		if v4 < 14 {
			t.Errorf("%s: %v, with %d leases", req.Owner, err, v4)
		}
	case wire.CodeAddressTaken:
		a := req.Static[0]
		keeps := func(list []netip.Addr) bool { return slices.Contains(list, a) }
		if m.holder(a) == "" && a.String() != "10.1.0.1" && !slices.ContainsFunc(slices.Collect(values(m.kept)), keeps) {
			t.Errorf("%s: %v", req.Owner, err)
		}
	case wire.CodeConfig:
		if len(req.Static) == 0 {
			t.Errorf("%s: %v", req.Owner, err)
		}
	default:
		t.Error(err)
	}
}

func values(m map[string][]netip.Addr) func(func([]netip.Addr) bool) {
	return func(yield func([]netip.Addr) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}
