package rtnl

import (
	"testing"

	"golang.org/x/sys/unix"

	"dcni/pkg/wire"
)

// TestIpvlanMode reads back what a new link is asked for, as the kernel answers in the same
// form.
func TestIpvlanMode(t *testing.T) {
	for _, want := range [][2]string{{"l2", "bridge"}, {"l3", "private"}, {"l3s", "vepa"}} {
		var m Message
		m.IfInfo(7, 0, 0)
		m.ChildInfo(&wire.Child{Kind: wire.KindIpvlan, Mode: want[0], Flag: want[1]})
		l := ParseLink(m.B)
		if mode, flag := l.IpvlanMode(); mode != want[0] || flag != want[1] || l.Kind != "ipvlan" {
			t.Errorf("%s %s %s, want %v", l.Kind, mode, flag, want)
		}
	}
	var m Message
	m.IfInfo(7, 0, 0)
	info := m.Open(unix.IFLA_LINKINFO)
	data := m.Open(unix.IFLA_INFO_DATA)
	m.Native16(unix.IFLA_IPVLAN_MODE, 9)
	m.Raw(unix.IFLA_IPVLAN_FLAGS, []byte{1})
	m.Close(data)
	m.Close(info)
	if mode, flag := ParseLink(m.B).IpvlanMode(); mode != "" || flag != "" {
		t.Errorf("a mode and a flag of no known number are %q %q", mode, flag)
	}
}
