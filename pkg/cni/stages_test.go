package cni

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// namespaces are some by their paths.
type namespaces struct {
	Namespaces
	at     map[string]wire.Sandbox
	closed []string
}

func (n *namespaces) OpenNetNS(netns string) (wire.Sandbox, error) {
	if s, there := n.at[netns]; there {
		return s, nil
	}
	return wire.Sandbox{}, fs.ErrNotExist
}

func (n *namespaces) CloseNetNS(netns string) { n.closed = append(n.closed, netns) }

// TestWhereNow: an interface that the host has no end of is looked for where the runtime says
// that the sandbox is, if that is the one on record or none is.
func TestWhereNow(t *testing.T) {
	spaces := &namespaces{at: map[string]wire.Sandbox{"/own": {Cookie: 1, Own: true}, "/a": {Cookie: 2}, "/moved": {Cookie: 2}, "/b": {Cookie: 3}}}
	for name, c := range map[string]struct {
		inside bool
		netns  string // CNI_NETNS
		known  network.Endpoint
		want   network.Endpoint
	}{
		"a veth":       {false, "/a", network.Endpoint{}, network.Endpoint{}},
		"no record":    {true, "/a", network.Endpoint{}, network.Endpoint{NetNS: "/a", Cookie: 2}},
		"no path":      {true, "", network.Endpoint{NetNS: "/a", Cookie: 2}, network.Endpoint{NetNS: "/a", Cookie: 2}},
		"as on record": {true, "/a", network.Endpoint{NetNS: "/a", Cookie: 7}, network.Endpoint{NetNS: "/a", Cookie: 7}},
		"moved":        {true, "/moved", network.Endpoint{NetNS: "/a", Cookie: 2}, network.Endpoint{NetNS: "/moved", Cookie: 2}},
		"another":      {true, "/b", network.Endpoint{NetNS: "/a", Cookie: 2}, network.Endpoint{NetNS: "/a", Cookie: 2}},
		"the host's":   {true, "/own", network.Endpoint{}, network.Endpoint{}},
		"gone":         {true, "/none", network.Endpoint{NetNS: "/a", Cookie: 2}, network.Endpoint{NetNS: "/a", Cookie: 2}},
	} {
		e := &Engine{Plugin: &network.Plugin{Inside: c.inside}, Namespaces: spaces}
		now := c.known
		if e.whereNow(&Request{NetNS: c.netns}, &now); now.NetNS != c.want.NetNS || now.Cookie != c.want.Cookie {
			t.Errorf("%s: in %s, %d; want %s, %d", name, now.NetNS, now.Cookie, c.want.NetNS, c.want.Cookie)
		}
	}
}

// off are sandboxes in which IPv6 may be switched off.
type off struct {
	Sandboxes
	is  bool
	err error
}

func (o off) IPv6Off(string, string) (bool, error) { return o.is, o.err }

// TestExceptIPv6Off: only what needs IPv6, could not be put back, and is in a sandbox without
// IPv6 by now is not reported.
func TestExceptIPv6Off(t *testing.T) {
	four, six := &wire.Addr{NetNS: "/a", Prefix: netip.MustParsePrefix("10.1.0.2/24")}, &wire.Addr{NetNS: "/a", Prefix: netip.MustParsePrefix("fd00::2/64")}
	failed := errors.New("permission denied")
	for name, c := range map[string]struct {
		o        wire.Object
		err      error
		off      off
		reported bool
	}{
		"put back":               {six, nil, off{is: true}, true},
		"failed, on":             {six, failed, off{}, true},
		"failed, off":            {six, failed, off{is: true}, false},
		"failed, who knows":      {six, failed, off{is: true, err: failed}, true},
		"IPv4 failed, off":       {four, failed, off{is: true}, true},
		"IPv4 put back, and off": {four, nil, off{is: true}, true},
	} {
		spaces := &namespaces{}
		h := &healer{Engine: &Engine{Sandboxes: c.off, Namespaces: spaces}}
		reported := false
		h.exceptIPv6Off(&records.Record{NetNS: "/a"}, func(o wire.Object, _, err error) {
			reported = o == c.o && errors.Is(err, c.err)
		})(c.o, nil, c.err)
		if reported != c.reported {
			t.Errorf("%s: reported %t", name, reported)
		}
		if asked := c.err != nil && c.o == six; (len(spaces.closed) == 1) != asked {
			t.Errorf("%s: forgot what was known of %v", name, spaces.closed)
		}
	}
}

// donors run, or don't.
type donors struct{ path string }

func (donors) Donors() ([]network.Donor, error) { return nil, nil }

func (d donors) NetNSOf(*network.Donor) (string, wire.Sandbox) { return d.path, wire.Sandbox{} }

// TestCheckDonor: CHECK tells of a donor that has ended, and of one that was detached.
func TestCheckDonor(t *testing.T) {
	const (
		ended    = "container db, whose network this is, has ended or was started again"
		detached = "container db, whose network this is, was detached: 10.1.0.2 is gone"
	)
	for name, c := range map[string]struct {
		donor, path string
		given, have []string
		want        string
	}{
		"none":        {"", "", []string{"10.1.0.2/24"}, nil, ""},
		"ended":       {"db", "", []string{"10.1.0.2/24"}, []string{"10.1.0.2/24"}, ended},
		"as it was":   {"db", "/ns", []string{"10.1.0.2/24"}, []string{"10.1.0.2/24"}, ""},
		"another one": {"db", "/ns", []string{"10.1.0.2/24"}, []string{"10.2.0.2/24"}, ""},
		"detached":    {"db", "/ns", []string{"127.0.0.1/8", "10.1.0.2/24"}, []string{"127.0.0.1/8", "::1/128"}, detached},
		"never was":   {"db", "/ns", []string{"127.0.0.1/8"}, []string{"127.0.0.1/8"}, ""},
	} {
		have := fixedAddresses{}
		for _, p := range c.have {
			have.list = append(have.list, netip.MustParsePrefix(p))
		}
		rec := &records.Record{Donor: c.donor}
		for _, p := range c.given {
			rec.Addresses = append(rec.Addresses, ipam.Assigned{Address: netip.MustParsePrefix(p)})
		}
		err := (&Engine{Donors: donors{path: c.path}, NetNSAddresses: have}).checkDonor(rec)
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
