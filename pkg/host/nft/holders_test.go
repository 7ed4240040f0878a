package nft

import (
	"io"
	"net"
	"os"
	"os/exec"
	"testing"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/wire"
)

// hold starts a process with a socket of its own that listens on a port, and
// with a word on its command line.
func hold(t *testing.T, network, address, word string) {
	t.Helper()
	var file *os.File
	if network == "udp" {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		file, err = c.(*net.UDPConn).File()
		if err != nil {
			t.Fatal(err)
		}
	} else {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		file, err = l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
	}
	defer file.Close()
	cmd := exec.Command("sh", "-c", "read x", "-", word)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = io.WriteString(stdin, "\n")
		_ = cmd.Wait()
	})
}

// TestReservedPorts: a socket that a process holds for the container does not
// keep its port from it.
func TestReservedPorts(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		hold(t, "tcp", "0.0.0.0:1001", "c1")
		hold(t, "udp", "0.0.0.0:1001", "c1")
		hold(t, "tcp", "0.0.0.0:1002", "c11")
		ports := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 1001, "tcp", 80), hosttest.Port("", 1001, "udp", 80))
		if _, err := f.EnsureEndpoint(ports); err != nil {
			t.Error(err)
		}
		_, err := f.EnsureEndpoint(hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 1002, "tcp", 80)))
		hosttest.WantCode(t, err, wire.CodePortTaken, "address already in use")
		if err := f.RemoveEndpoint(ports); err != nil {
			t.Error(err)
		}
		_, err = f.EnsureEndpoint(hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("", 1001, "udp", 80)))
		hosttest.WantCode(t, err, wire.CodePortTaken, "address already in use")
	})
}
