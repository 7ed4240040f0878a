// Package hosttest is what the tests of the host's packages share: network namespaces
// that live as long as a test, and hosts and containers in them.
package hosttest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"

	"golang.org/x/sys/unix"
)

// InNewNS runs f on a thread of its own in a fresh network namespace. The
// thread is never unlocked: the runtime scraps it, and the namespace with it.
func InNewNS(t testing.TB, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: network namespaces can't be made")
	}
	done := make(chan error, 1)
	go func() {
		finished := false
		defer func() {
			if !finished { // t.Fatal ends this goroutine only
				done <- nil
			}
		}()
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			finished = true
			done <- err
			return
		}
		f()
	}()
	if err := <-done; err != nil {
		t.Skip("no network namespace:", err)
	}
}

// NFT runs nft(8) in the thread's namespace: it is what people see.
func NFT(t testing.TB, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed: nothing to compare with")
	}
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// LoUp brings lo up in the thread's namespace.
func LoUp(t testing.TB) {
	t.Helper()
	linkUp(t, "lo")
}

// ListenTCP listens as long as the test lasts.
func ListenTCP(t testing.TB, network, address string) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// WantCode wants an error with a code, and a text in it.
func WantCode(t *testing.T, err error, code wire.Code, text string) {
	t.Helper()
	var we *wire.Error
	if !errors.As(err, &we) || we.Code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v; want code %d and %q", err, code, text)
	}
}

// Sysctl sets a setting of the thread's namespace.
func Sysctl(t testing.TB, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// Shell runs a command in the thread's namespace, and returns what it prints.
func Shell(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// Endpoint makes the endpoint of a container of network web.
func Endpoint(container string, addresses []string, ports ...firewall.Port) *firewall.Endpoint {
	e := &firewall.Endpoint{Owner: wire.Attachment{Network: "web", Container: container, IfName: "eth0"},
		Bridge: "br-a", Ports: ports}
	for _, a := range addresses {
		e.Addresses = append(e.Addresses, netip.MustParseAddr(a))
	}
	return e
}

// Port makes a port; host may be empty.
func Port(host string, hostPort uint16, proto string, containerPort uint16) firewall.Port {
	p := firewall.Port{HostPort: hostPort, Protocol: proto, ContainerPort: containerPort}
	if host != "" {
		p.HostIP = netip.MustParseAddr(host)
	}
	return p
}

// Both are the addresses of a container with both families.
var Both = []string{"10.1.0.2", "fd00:1::2"}
