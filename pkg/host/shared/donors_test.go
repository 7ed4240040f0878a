package shared

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/proc"
	"dcni/pkg/host/spaces"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

func TestProcessOf(t *testing.T) {
	for path, want := range map[string]proc.Process{
		"/proc/12/ns/net": 12, "/proc//12/./ns/net": 12,
		"/proc/self/ns/net": 0, "/run/netns/12": 0, "/proc/12": 0, "/proc/": 0, "": 0,
	} {
		p, ok := processOf(path)
		if ok != (want != 0) || ok && p != want {
			t.Errorf("%q: %d, %t; want %d", path, p, ok, want)
		}
	}
}

// What is at a path is the donor's by its cookie, by when its process started, or, of what
// no more is known, if it is not the host's and no process's of another container.
func TestIsDonors(t *testing.T) {
	own := "/proc/" + strconv.Itoa(os.Getpid()) + "/ns/net"
	start, err := proc.Process(os.Getpid()).StartTime()
	if err != nil {
		t.Fatal(err)
	}
	host, other := wire.Sandbox{Cookie: 1, Own: true}, wire.Sandbox{Cookie: 7}
	for _, c := range []struct {
		found wire.Sandbox
		at    network.Namespace
		want  bool
	}{
		{other, network.Namespace{Path: "/run/netns/c1", Cookie: 7}, true},
		{other, network.Namespace{Path: "/run/netns/c1", Cookie: 8}, false},
		{host, network.Namespace{Path: network.HostNetNS, Cookie: 1}, true},
		{other, network.Namespace{Path: "/run/netns/c1"}, true},
		{host, network.Namespace{Path: "/run/netns/c1"}, false},
		{other, network.Namespace{Path: own}, false},
		{other, network.Namespace{Path: own, Start: start}, true},
		{host, network.Namespace{Path: own, Start: start}, true},
		{other, network.Namespace{Path: own, Start: start + 1}, false},
		{other, network.Namespace{Path: "/run/netns/c1", Start: start}, false},
	} {
		if got := is(c.found, c.at, &network.Donor{Container: "c1"}); got != c.want {
			t.Errorf("%+v at %+v: %t, want %t", c.found, c.at, got, c.want)
		}
	}
}

// A namespace of which no more is known than its path is a container's if it has one of
// the container's addresses.
func TestNetNSOfKept(t *testing.T) {
	hosttest.InSandbox(t, func(fd string, cookie uint64) {
		hosttest.Shell(t, "ip link set lo up; ip addr add 10.9.0.2/32 dev lo; ip addr add fd00:9::2/128 dev lo")
		own := strings.Replace(fd, "self", strconv.Itoa(os.Getpid()), 1)
		path := filepath.Join(t.TempDir(), "c1")
		if err := os.Symlink(own, path); err != nil {
			t.Fatal(err)
		}
		hosttest.InNewNS(t, func() {
			open, err := spaces.New()
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			h := Shared{Set: open, Records: records.Store{Run: t.TempDir(), Lib: t.TempDir()}}
			for _, c := range []struct {
				addresses string
				want      bool
			}{{"10.9.0.2", true}, {"10.9.0.3 fd00:9::2", true}, {"10.9.0.3", false}, {"", false}} {
				at := network.Namespace{Path: path}
				for _, word := range strings.Fields(c.addresses) {
					at.Addresses = append(at.Addresses, netip.MustParseAddr(word))
				}
				got, found := h.NetNSOf(&network.Donor{Container: "c1", Namespaces: []network.Namespace{at}})
				if (got == path && found.Cookie == cookie) != c.want {
					t.Errorf("%q: %q; want %t", c.addresses, got, c.want)
				}
			}
		})
	})
}
