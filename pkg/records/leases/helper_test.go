package leases

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/records/recordstest"
)

var owner, code, want, config, request = recordstest.Owner, recordstest.Code, recordstest.Want, recordstest.Config, recordstest.Request

var errText, reboot = recordstest.ErrText, recordstest.Reboot

func testStore(t testing.TB) records.Store {
	run, lib := recordstest.Dirs(t)
	return records.Store{Run: run, Lib: lib}
}

// claim returns the addresses as text, or the error's.
func claimText(l Leases, r ipam.Request, c ipam.Config) string {
	got, err := l.Claim(r, c)
	if err != nil {
		return "error " + fmt.Sprint(code(err)) + ": " + err.Error()
	}
	var out []string
	for _, a := range got {
		out = append(out, a.Address.String())
	}
	return strings.Join(out, " ")
}

// verify compares everything on disk with everything else: links, by-owner,
// by-name, bitmap and state. It returns the leases, "address owner" each.
func verify(t testing.TB, l Leases) []string {
	t.Helper()
	// The first session repairs, if it must, and the second sees it on disk.
	if err := l.session(false, func(*session) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var out []string
	err := l.session(false, func(s *session) error {
		links, err := s.links()
		if err != nil {
			return err
		}
		by := map[string][]netip.Addr{}
		taken := map[netip.Addr]bool{}
		for a, link := range links {
			out = append(out, a.String()+" "+link.owner.Container)
			key := link.owner.Container + "/" + link.owner.IfName
			by[key] = append(by[key], a)
			taken[a] = true
			if link.epoch != s.epoch {
				t.Errorf("%s is of epoch %s, not %s", a, link.epoch, s.epoch)
			}
		}
		err = s.eachList("by-owner", func(container, ifName string) error {
			have, err := readList(s.path("by-owner", container, ifName))
			key := container + "/" + ifName
			slices.SortFunc(have, netip.Addr.Compare)
			slices.SortFunc(by[key], netip.Addr.Compare)
			if !slices.Equal(have, by[key]) {
				t.Errorf("by-owner %s lists %v, its links are %v", key, have, by[key])
			}
			delete(by, key)
			return err
		})
		if len(by) > 0 {
			t.Errorf("not in by-owner: %v", by)
		}
		kept, kerr := s.reservations()
		for _, r := range kept {
			for _, a := range r.addrs {
				taken[a] = true
			}
		}
		verifyPages(t, s, taken)
		return errors.Join(err, kerr)
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func verifyPages(t testing.TB, s *session, taken map[netip.Addr]bool) {
	t.Helper()
	set := 0
	files, _ := os.ReadDir(s.path(".pages"))
	for _, f := range files {
		page, err := s.pages.Page(netip.MustParseAddr(f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page {
			set += bits.OnesCount8(b)
		}
	}
	for a := range taken {
		if ok, err := s.pages.has(a); !ok || err != nil {
			t.Errorf("%s is taken, but not in the bitmap (%v)", a, err)
		}
	}
	if set != len(taken) {
		t.Errorf("the bitmap has %d addresses, there are %d", set, len(taken))
	}
}
