package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dcni/integration/testhost"
	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// commandLine measures dnet in this build and, with -before, in another one.
func (b *run) commandLine() error {
	builds, err := b.inTurns("cli")
	if err != nil {
		return err
	}
	b.table.cli = []buildRow{
		timeRow("first output of dnet run: p50", builds, func(f figures) time.Duration { return f.Run }),
		timeRow("... of ip netns add and exec: p50", builds, func(f figures) time.Duration { return f.NetNS }),
		addedRow("... what dnet run adds: p50", builds, func(f figures) time.Duration { return f.Run - f.NetNS }),
		timeRow("dnet ls: p50", builds, func(f figures) time.Duration { return f.List }),
		ratioRow("... to a program that prints a line", builds, func(f figures) (a, b time.Duration) { return f.List, f.Line }),
		timeRow("VERSION of a plugin: p50", builds, func(f figures) time.Duration { return f.Version }),
		ratioRow("... to a program that prints a line", builds, func(f figures) (a, b time.Duration) { return f.Version, f.Line }),
		timeRow("dnet inspect, of the one: p50", builds, func(f figures) time.Duration { return f.Inspect }),
	}
	return nil
}

// serveCLI is the process of a build whose command line is measured: `cli DIRECTORY -`.
func serveCLI(bin, _ string) error {
	host, err := testhost.NewHost(bin)
	if err != nil {
		return err
	}
	b := &run{host: host, options: options{bin: bin}}
	if _, err := b.dnet("create", "--subnet", "10.98.0.0/16", "bench-run"); err != nil {
		return err
	}
	if err := crowd(); err != nil {
		return err
	}
	// One that stays: dnetd would end when there is none, and start again.
	if _, err := b.dnet("run", "-d", "--name", "stays", "--network", "bench-run", "sleep", "1000"); err != nil {
		return err
	}
	err = serveRounds(b.cliRound)
	_, stop := b.dnet("stop", "stays")
	return errors.Join(err, stop, killAgent())
}

// dnet runs this build's, and returns what it prints.
func (b *run) dnet(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(b.bin, "dnet"), args...)
	cmd.Env = append(os.Environ(), "CNI_PATH="+b.bin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dnet %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// What dnet lists and shows.
const (
	manyNetworks    = 200
	manyAttachments = 2000
	crowded         = "crowded" // a network with as many
)

// crowd makes networks and attachments: files, which is all that dnet looks at.
func crowd() error {
	store, conf := records.Default(), records.DefaultConfDir()
	name := func(i int) string { return fmt.Sprintf("net%d", i%manyNetworks) }
	for i := range manyNetworks + 1 {
		network := name(i)
		if i == manyNetworks {
			network = crowded
		}
		list := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [{"type": "dbridge", "ipam": {"type": "dipam"}}]}`, network)
		if err := conf.Write(network, []byte(list)); err != nil {
			return err
		}
	}
	for i := range manyAttachments {
		for _, network := range []string{name(i), crowded} {
			r := &records.Record{
				Attachment: wire.Attachment{Network: network, Container: fmt.Sprintf("listed%d", i), IfName: "eth0"},
				Plugin:     "dbridge", State: records.Up, Host: []string{"forwarding 4"}, Name: fmt.Sprintf("name%d", i), MAC: fmt.Sprintf("02:42:0a:62:%02x:%02x", i/256, i%256),
				Addresses: []ipam.Assigned{{Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 97, byte(i / 256), byte(i)}), 16)}},
			}
			if err := store.Put(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// cliRound measures each command once.
func (b *run) cliRound() (f figures, err error) {
	const name = "first"
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	line := filepath.Join(filepath.Dir(self), "line")
	for _, step := range []struct {
		took *time.Duration
		args []string
	}{
		{&f.NetNS, []string{"sh", "-c", "ip netns add " + name + " && exec ip netns exec " + name + " echo hello"}},
		{&f.Run, []string{filepath.Join(b.bin, "dnet"), "run", "--rm", "--network", "bench-run", "echo", "hello"}},
		{&f.List, []string{filepath.Join(b.bin, "dnet"), "ls"}},
		{&f.Line, []string{line}},
		{&f.Version, []string{filepath.Join(b.bin, "dbridge")}},
		{&f.Inspect, []string{filepath.Join(b.bin, "dnet"), "inspect", crowded}},
	} {
		cmd := exec.Command(step.args[0], step.args[1:]...)
		cmd.Env = append(os.Environ(), "CNI_PATH="+b.bin)
		if step.took == &f.Version {
			cmd.Env = append(cmd.Env, "CNI_COMMAND=VERSION")
		}
		cmd.Stderr = os.Stderr
		first, all, err := untilOutput(cmd)
		if err != nil {
			return f, fmt.Errorf("%v: %w", step.args, err)
		}
		if *step.took = all; step.took == &f.NetNS || step.took == &f.Run {
			*step.took = first
		}
	}
	return f, exec.Command("ip", "netns", "del", name).Run()
}

// untilOutput returns how long a command took to its first line, and to its end.
func untilOutput(cmd *exec.Cmd) (first, all time.Duration, err error) {
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	r := bufio.NewReader(stdout)
	_, err = r.ReadString('\n')
	first = time.Since(start)
	_, more := r.WriteTo(io.Discard)
	err = errors.Join(err, more, cmd.Wait())
	return first, time.Since(start), err
}

// connects measures what connects a running container to a network and disconnects it,
// beside Docker. Both are told on a command line.
func (b *run) connects() error {
	d, err := startDocker(nil, "names")
	if errors.Is(err, errNoDocker) {
		fmt.Fprintln(os.Stderr, "bench: not measured beside Docker:", err)
		return nil
	}
	if err != nil {
		return err
	}
	docker := func(args ...string) error {
		out, err := exec.Command(d.client, append([]string{"-H", "unix://" + d.socket()}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("docker %v: %w: %s", args, err, out)
		}
		return nil
	}
	dnet := func(args ...string) error {
		if args[0] == "network" {
			args = args[1:]
		}
		_, err := b.dnet(args...)
		return err
	}
	err = errors.Join(docker("network", "create", "second"), dnet("create", "first"), dnet("create", "second"),
		dnet("run", "-d", "--name", "asker", "--network", "first", "sleep", "1000"))
	took := make([]samples, 3)
	for i := 0; i <= b.rounds && err == nil; i++ {
		for which, command := range []func(...string) error{docker, dnet} {
			start := time.Now()
			err = errors.Join(err, command("network", "connect", "second", "asker"), command("network", "disconnect", "second", "asker"))
			if i > 0 { // the first makes what the network shares
				took[which] = append(took[which], time.Since(start))
			}
		}
	}
	b.table.times("connect and disconnect, beside Docker: p50", took, 50)
	return errors.Join(err, dnet("stop", "asker"), dnet("rm", "first", "second"), d.stop())
}

// severalNetworks measures a name's answer in a container on five networks, beside one on
// one of them.
func (b *run) severalNetworks() error {
	networks := []string{"n1", "n2", "n3", "n4", "n5"}
	for _, n := range networks {
		if _, err := b.dnet("create", n); err != nil {
			return err
		}
	}
	var sandboxes []string
	for which, on := range [][]string{networks[:1], networks} {
		name := "several" + strconv.Itoa(which)
		file := filepath.Join(os.TempDir(), name)
		args := []string{"run", "-d", "--name", name}
		for _, n := range on {
			args = append(args, "--network", n)
		}
		if _, err := b.dnet(append(args, "sh", "-c", "echo $$ >"+file+"; exec sleep 1000")...); err != nil {
			return err
		}
		pid, err := awaitFile(file)
		if err != nil {
			return err
		}
		sandboxes = append(sandboxes, "/proc/"+pid+"/ns/net")
	}
	took := make([]samples, 3)
	for range nameRounds {
		for which := range 2 {
			err := b.host.In(sandboxes[which], func() error {
				more, err := latencies("127.0.0.11:53", "several0", askRate/4)
				took[which] = append(took[which], more...)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	b.table.micros("a name, on one network and on five: p50", took, 50)
	b.table.micros("a name, on one network and on five: p99", took, 99)
	_, err := b.dnet("stop", "several0", "several1")
	_, rm := b.dnet(append([]string{"rm"}, networks...)...)
	return errors.Join(err, rm)
}

// awaitFile returns the first line of a file that is about to be written.
func awaitFile(path string) (string, error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if data, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(data), "\n") {
			return strings.TrimSpace(string(data)), os.Remove(path)
		}
	}
	return "", fmt.Errorf("%s was not written", path)
}
