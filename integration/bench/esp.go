package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"dcni/integration/testhost"
	"dcni/pkg/host/rawip"
	"dcni/pkg/overlay/probe"
)

// inMachine marks the process that runs in the virtual machine.
const inMachine = "DCNI_BENCH_IN_VM"

// benchESP measures an encrypted network: in the virtual machine, whose kernel has ESP.
// There the program runs a second time.
func benchESP(o options) error {
	if os.Getenv(inMachine) != "" {
		return bench(o)
	}
	return again(o, "-esp")
}

// again runs this program in the virtual machine.
func again(o options, what string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	for range 3 {
		cmd := exec.Command("scripts/vm/run", "env", inMachine+"=1", program, what, "-bin", o.bin)
		cmd.Env = append(os.Environ(), "TIMEOUT="+vmSeconds)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err = cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != noMachine {
			return err
		}
		fmt.Fprintln(os.Stderr, "bench: the virtual machine ended by itself")
	}
	return err
}

// noMachine is how scripts/vm/run exits if the virtual machine ended before its command.
// Emulated, its kernel now and then falls over code that it changes while packets pass.
const noMachine = 125

// encrypted compares an encrypted network between two nodes with a VXLAN by hand between
// the same containers, whose packets the same kind of ESP encrypts.
func (b *run) encrypted() error {
	o, done, err := b.overlayNodes()
	defer done()
	if err != nil {
		return err
	}
	for _, step := range []func() error{o.encryptedNetwork, o.encryptedByHand, o.encryptedTraffic} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// encryptedNetwork makes the cluster, the network and a container on each node, and waits
// until these hear one another: the nodes have exchanged keys by then.
func (o *overlayRun) encryptedNetwork() error {
	if err := o.join(); err != nil {
		return err
	}
	if _, err := o.dnet(o.nodes[0], "create", "-d", "overlay", "-o", "encrypted", "--subnet", "10.90.0.0/16", "bench-encrypted"); err != nil {
		return err
	}
	var err error
	for i, n := range o.nodes {
		if o.overlay, err = o.read(n, "bench-encrypted"); err != nil {
			return err
		}
		if o.containers[i], err = o.attachSlowly(n, fmt.Sprint("o", i+1)); err != nil {
			return err
		}
	}
	return o.containers[0].in(func() error {
		out, err := exec.Command("sh", "-c", "for i in $(seq 60); do ! ping -n -q -c 1 -W 1 "+o.containers[1].address+" || exit 0; done; exit 1").CombinedOutput()
		if err != nil {
			return fmt.Errorf("the encrypted network has no traffic: %w: %s", err, out)
		}
		return nil
	})
}

// attachSlowly attaches where programs start slowly, as in an emulated machine: more than once,
// if dnetd was not there in time.
func (o *overlayRun) attachSlowly(n *testhost.Host, name string) (end, error) {
	e, err := o.attachTo(n, o.overlay, name)
	for try := 0; err != nil && try < 3; try++ {
		time.Sleep(5 * time.Second)
		if err = o.overlay.del(container(name)); err == nil {
			e.address, err = o.overlay.add(container(name))
		}
	}
	return end{n, name, e.address}, err
}

// encryptedByHand makes the VXLAN by hand, and has ESP encrypt it.
func (o *overlayRun) encryptedByHand() error {
	if err := o.handMade(1416); err != nil {
		return err
	}
	for i, n := range o.nodes {
		n.Enter()
		var script strings.Builder
		script.WriteString("set -e\n")
		for way, ends := range [2][2]netip.Addr{{o.nodes[0].IPv4, o.nodes[1].IPv4}, {o.nodes[1].IPv4, o.nodes[0].IPv4}} {
			direction := "out"
			if way != i {
				direction = "in"
			}
			fmt.Fprintf(&script, `
				ip xfrm state add src %s dst %s proto esp spi 0x77%d reqid 77 mode transport replay-window 1024 flag esn \
					aead 'rfc4106(gcm(aes))' 0x%040d 128
				ip xfrm policy add dir %s src %[1]s dst %[2]s proto udp dport %d tmpl proto esp reqid 77 mode transport
			`, ends[0], ends[1], way, 11+way, direction, handPort)
		}
		if out, err := exec.Command("sh", "-c", script.String()).CombinedOutput(); err != nil {
			return fmt.Errorf("ESP by hand: %w: %s", err, out)
		}
	}
	return nil
}

// encryptedTraffic compares the two. An emulated machine sends little in a second.
func (o *overlayRun) encryptedTraffic() error {
	const span = 4 * time.Second
	sent, err := inTurns(11, func(way int) (float64, error) {
		if way == 0 {
			return transferFor(span, o.byHand[0], o.byHand[1])
		}
		return transferFor(span, o.containers[0], o.containers[1])
	})
	if err != nil {
		return err
	}
	for _, figures := range sent {
		for i := range figures {
			figures[i] *= 1e3
		}
	}
	o.table.overlay("encrypted, TCP, to VXLAN and ESP by hand", "%.1f MB/s", sent, higher, 0.95)
	return nil
}

// probed measures what the sockets cost by which dclusterd probes: each UDP packet to the
// node is shown to their filter. Small ones are sent to the node itself, with and without
// such sockets.
func (o *overlayRun) probed() error {
	from, to := end{o.nodes[1], "host", o.nodes[1].IPv4.String()}, end{o.nodes[0], "host", o.nodes[0].IPv4.String()}
	for _, n := range o.nodes {
		if _, err := n.Kill(regexp.MustCompile("^dclusterd")); err != nil {
			return err
		}
	}
	sent, err := inTurns(21, func(way int) (float64, error) {
		if way == 0 {
			return datagrams(from, to)
		}
		sockets, err := probeSockets(to)
		defer func() {
			for _, s := range sockets {
				_ = s.Close()
			}
		}()
		if err != nil {
			return 0, err
		}
		return datagrams(from, to)
	})
	if err != nil {
		return err
	}
	o.table.overlay("64-byte UDP to a node, to one without probes", "%.0f /s", sent, higher, 0)
	return nil
}

// probeSockets opens the sockets that dclusterd has at an address.
func probeSockets(at end) (sockets []*rawip.Socket, err error) {
	err = at.in(func() error {
		for _, p := range []probe.Path{probe.VXLAN, probe.ESP} {
			var words []rawip.Word
			for _, w := range p.Words() {
				words = append(words, rawip.Word(w))
			}
			s, err := rawip.Listen(context.Background(), p.Protocol(), netip.MustParseAddr(at.address), words...)
			if err != nil {
				return err
			}
			sockets = append(sockets, s)
		}
		return nil
	})
	return sockets, err
}

// datagrams returns how many packets of 64 bytes one end sends to another in a second,
// which reads them. What is sent here is received before the call returns, or dropped.
func datagrams(from, to end) (float64, error) {
	const size = 64 - 20 - 8 // without the headers of IP and UDP
	var reader, writer *net.UDPConn
	err := to.in(func() (err error) {
		reader, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(to.address)})
		return err
	})
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	err = from.in(func() (err error) {
		writer, err = net.DialUDP("udp4", nil, reader.LocalAddr().(*net.UDPAddr))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer writer.Close()
	go func() {
		for buffer := make([]byte, size); ; {
			if _, err := reader.Read(buffer); err != nil {
				return
			}
		}
	}()
	buffer, count, began := make([]byte, size), 0, time.Now()
	for ; time.Since(began) < time.Second/2; count++ {
		if _, err := writer.Write(buffer); err != nil {
			return 0, err
		}
	}
	return float64(count) / time.Since(began).Seconds(), nil
}
