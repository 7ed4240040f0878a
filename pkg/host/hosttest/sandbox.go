package hosttest

import (
	"fmt"
	"testing"

	"dcni/pkg/netns"
)

// InSandbox runs f in a fresh namespace, with its path and cookie.
func InSandbox(t *testing.T, f func(path string, cookie uint64)) {
	t.Helper()
	InNewNS(t, func() {
		ns, err := netns.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		cookie, err := ns.Cookie()
		if err != nil {
			t.Fatal(err)
		}
		f(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), cookie)
	})
}
