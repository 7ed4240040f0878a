package host

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzLink(f *testing.F) {
	var m rtMessage
	m.ifinfo(2, unix.IFF_UP, 0)
	m.str(unix.IFLA_IFNAME, "eth0")
	m.str(unix.IFLA_IFALIAS, "web c1/eth0")
	m.native(unix.IFLA_LINK_NETNSID, 1)
	info := m.open(unix.IFLA_LINKINFO)
	m.str(unix.IFLA_INFO_KIND, "veth")
	m.close(info)
	spec := m.open(unix.IFLA_AF_SPEC)
	inet := m.open(unix.AF_INET)
	m.raw(inetConf, make([]byte, 128))
	m.close(inet)
	m.close(spec)
	f.Add(m.b)
	f.Add(make([]byte, unix.SizeofIfInfomsg))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) < unix.SizeofIfInfomsg {
			return
		}
		l := parseIface(payload)
		for _, d := range devconfs {
			if value, err := d.of(l); err == nil && value == "" {
				t.Errorf("%+v has no value", d)
			}
		}
		if len(l.settings(sandboxSettings)) > 4*len(sandboxSettings) {
			t.Errorf("settings %x", l.settings(sandboxSettings))
		}
	})
}

func FuzzAddress(f *testing.F) {
	var m rtMessage
	m.raw(unix.IFA_ADDRESS, []byte{10, 0, 0, 1})
	m.raw(unix.IFA_LOCAL, []byte{10, 0, 0, 2})
	f.Add(m.b)
	f.Fuzz(func(t *testing.T, attrs []byte) {
		if a, ok := addrOf(attrs); ok != a.IsValid() {
			t.Errorf("address %v: %v", a, ok)
		}
	})
}
