package wire

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// This file is about what plugins further down the chain have made of a sandbox's interface.
// ADD makes nothing of it. An interface that is made again is made so.

// A Tuning is what an interface is made with, as the plugin tuning had set it. The zero Tuning
// is what the kernel gives.
type Tuning struct {
	MTU        int // bytes; 0: the link's own
	Promisc    bool
	AllMulti   bool
	TxQueueLen *int // packets; nil: the kernel's own
}

// String is as ip link has it, with a space before each word, or "".
func (t Tuning) String() string {
	s := ""
	if t.MTU != 0 {
		s += " mtu " + strconv.Itoa(t.MTU)
	}
	if t.Promisc {
		s += " promisc on"
	}
	if t.AllMulti {
		s += " allmulticast on"
	}
	if t.TxQueueLen != nil {
		s += " txqueuelen " + strconv.Itoa(*t.TxQueueLen)
	}
	return s
}

// MovedRoutes says that routes through a link are not in the table main: they are in those
// tables that rules by the link's addresses lead to, as the plugin sbr has moved them. The
// rules outlive the link. It comes after the routes.
type MovedRoutes struct {
	NetNS    string
	Dev      string
	Prefixes []netip.Prefix // the link's addresses
	Dsts     []netip.Prefix // the destinations; others stay where they are
}

// Key names the link.
func (m *MovedRoutes) Key() string { return "moved routes dev " + m.Dev + at(m.NetNS) }

// Refers names the link.
func (m *MovedRoutes) Refers() []string { return refers(m.NetNS, m.Dev) }

// Outside returns nil: all of it is in the sandbox.
func (m *MovedRoutes) Outside() Object { return ofHost(m, m.NetNS) }

func (m *MovedRoutes) String() string {
	words := make([]string, len(m.Dsts))
	for i, p := range m.Dsts {
		words[i] = p.String()
	}
	return fmt.Sprintf("routes %s dev %s in tables by source%s", strings.Join(words, " "), m.Dev, in(m.NetNS))
}

// without6 returns those of IPv4.
func (m *MovedRoutes) without6() *MovedRoutes {
	four := *m
	is6 := func(p netip.Prefix) bool { return p.Addr().Is6() }
	four.Prefixes = slices.DeleteFunc(slices.Clone(m.Prefixes), is6)
	four.Dsts = slices.DeleteFunc(slices.Clone(m.Dsts), is6)
	return &four
}
