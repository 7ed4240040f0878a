package names_test

import (
	"fmt"
	"testing"

	"dcni/pkg/names"
)

func TestResolvConf(t *testing.T) {
	const text = "# nameserver 192.0.2.1\n; nameserver 192.0.2.2\nnameserver 127.0.0.53\n\tnameserver\t2001:db8::53 # inner\n" +
		"nameserver\nnameserver name.example\nsearch 192.0.2.3\n\nnameserver fe80::1%eth0\ndomain a.example b.example\n" +
		"options edns0\nsortlist 10.0.0.0\noptions ndots:2 trust-ad"
	c := names.ParseResolvConf(text)
	if is, want := fmt.Sprint(c.Addresses()), "[127.0.0.53 2001:db8::53 fe80::1%eth0]"; is != want {
		t.Errorf("servers %s, want %s", is, want)
	}
	const want = "nameserver 127.0.0.53\nnameserver 2001:db8::53\nnameserver name.example\nnameserver fe80::1%eth0\n" +
		"search a.example b.example\noptions edns0 ndots:2 trust-ad\nnameserver\nsortlist 10.0.0.0\n"
	if c.String() != want {
		t.Errorf("got\n%swant\n%s", c, want)
	}
	if empty := names.ParseResolvConf(""); len(empty.Addresses()) != 0 || empty.String() != "" {
		t.Errorf("of an empty file: %v", empty)
	}
}
