package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// relayedPorts is how many ports dnetd has open, from firstRelayed on.
const (
	relayedPorts = 10000
	firstRelayed = 20000
)

// relayed adds what it costs dnetd to hold 10,000 ports of both families.
func (b *run) relayed() error {
	if b.ours == nil {
		return nil
	}
	dnetd := filepath.Join(b.bin, "dnetd")
	without, err := relaySize(dnetd, 1)
	if err != nil {
		return err
	}
	with, err := relaySize(dnetd, relayedPorts)
	if err != nil {
		return err
	}
	b.table.numbers("dnetd: 10,000 ports held cost", [2]int{0, with - without}, " KiB")
	b.table.rows[len(b.table.rows)-1].reference = ""
	return nil
}

// relaySize returns how much memory a dnetd holds that has so many ports on
// record, half of them UDP.
func relaySize(dnetd string, ports int) (kib int, err error) {
	owner := wire.Attachment{Network: "relayed", Container: "relayed", IfName: "eth0"}
	e := &firewall.Endpoint{Owner: owner, Addresses: []netip.Addr{
		netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("fd00:99::2"),
	}}
	for i := range ports {
		p := firewall.Port{HostPort: uint16(firstRelayed + i), Protocol: "tcp", ContainerPort: 80}
		if i%2 == 1 {
			p.Protocol = "udp"
		}
		e.Ports = append(e.Ports, p)
	}
	store := records.Default()
	if err := store.Put(&records.Record{Attachment: owner, Plugin: "dbridge", State: records.Up, Endpoint: e}); err != nil {
		return 0, err
	}
	cmd := exec.Command(dnetd, "serve", "--metrics=", "--log-level=error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		err = errors.Join(err, store.Delete(owner, "dbridge"))
	}()
	if err := awaitFiles(cmd.Process.Pid, ports); err != nil {
		return 0, err
	}
	return residentSize(cmd.Process.Pid)
}

// awaitFiles waits until a process has more files open than some.
func awaitFiles(pid, some int) error {
	var last int
	for range 100 {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return err
		}
		if len(files) > some && len(files) == last {
			return nil
		}
		last = len(files)
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("process %d has %d files open, not more than %d", pid, last, some)
}
