package rtnl

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzLink(f *testing.F) {
	var m Message
	m.IfInfo(2, unix.IFF_UP, 0)
	m.Str(unix.IFLA_IFNAME, "eth0")
	m.Str(unix.IFLA_IFALIAS, "web c1/eth0")
	m.Native(unix.IFLA_LINK_NETNSID, 1)
	info := m.Open(unix.IFLA_LINKINFO)
	m.Str(unix.IFLA_INFO_KIND, "veth")
	m.Close(info)
	spec := m.Open(unix.IFLA_AF_SPEC)
	inet := m.Open(unix.AF_INET)
	m.Raw(inetConf, make([]byte, 128))
	m.Close(inet)
	m.Close(spec)
	f.Add(m.B)
	f.Add(make([]byte, unix.SizeofIfInfomsg))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) < unix.SizeofIfInfomsg {
			return
		}
		l := ParseLink(payload)
		for _, d := range DevConfs {
			if value, err := d.Value(l); err == nil && value == "" {
				t.Errorf("%+v has no value", d)
			}
		}
		if some := l.Settings([]DevConf{ArpNotify, DisableIPv6}); len(some)%4 != 0 {
			t.Errorf("settings %x", some)
		}
	})
}

func FuzzAddress(f *testing.F) {
	var m Message
	m.Raw(unix.IFA_ADDRESS, []byte{10, 0, 0, 1})
	m.Raw(unix.IFA_LOCAL, []byte{10, 0, 0, 2})
	f.Add(m.B)
	f.Fuzz(func(t *testing.T, attrs []byte) {
		if a, ok := addrOf(attrs); ok != a.IsValid() {
			t.Errorf("address %v: %v", a, ok)
		}
	})
}
