package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containernetworking/cni/libcni"

	"dcni/integration/testhost"
)

// The containers that have names, and the networks that they are spread over.
const (
	namedContainers = 1000
	namedNetworks   = 20
	perNetwork      = namedContainers / namedNetworks
)

// hosts is how many names the upstream outside has.
const hosts = 100

// peerPort is where dnsmasq listens in the asking container, beside dnetd's own
// server.
const peerPort = 5301

// How often each server is asked, and for how long.
const (
	nameRounds = 5
	nameTime   = 3 // seconds
)

// names measures the name server: what it adds to an ADD, dnetd with many
// containers, and one container's queries beside dnsmasq and Docker.
func (b *run) names() error {
	if _, err := os.Stat(filepath.Join(b.bin, "ddns")); err != nil {
		return nil //nolint:nilerr // not built
	}
	for i := range namedContainers + 1 {
		if err := b.host.NewNetNS(named(i)); err != nil {
			return err
		}
	}
	for _, step := range []func() error{b.attachNamed, b.calm, b.addWithNames, b.agentSize, b.agentReopens, b.ask, b.askDocker, b.flood} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func named(i int) string { return "n" + strconv.Itoa(i) }

// namedList is the i-th of the networks, with names in one of the two ways
// (keyNames, ddnsNames), or without.
func namedList(i int, names string) *list {
	key, behind := names, ""
	if names == ddnsNames {
		key, behind = "", ", "+ddnsNames
	}
	return mustList(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "names%[1]d", "plugins": [
		{"type": "dbridge", "bridge": "br-names%[1]d", %[3]s"capabilities": {"portMappings": true},
		 "ipam": {"type": "dipam", "subnet": "10.%[2]d.0.0/16"}}%[4]s]}`, i, 100+i, key, behind))
}

func namedAttachment(i int) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: named(i), NetNS: testhost.NetNSPath(named(i)), IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", "name" + strconv.Itoa(i/namedNetworks)}},
	}
}

// addWithNames measures what ddns adds to an ADD where all the others are there, in
// turns.
func (b *run) addWithNames() error {
	without, with, one := namedList(1, ""), namedList(0, b.namesKey()), namedAttachment(namedContainers)
	adds := make([]samples, 2)
	for i := range b.rounds {
		for which, l := range []*list{without, with} {
			add, _, err := l.both(one)
			if err != nil {
				return err
			}
			if i > 0 {
				adds[which] = append(adds[which], add)
			}
		}
	}
	plain, names := adds[0].percentile(50), adds[1].percentile(50)
	b.table.rows = append(b.table.rows, row{
		"ADD, without and with names: p50", ms(plain), ms(names), "", fmt.Sprintf("%+.1f ms", float64((names-plain).Microseconds())/1000),
	})
	return nil
}

// attachNamed attaches all containers, some at a time.
func (b *run) attachNamed() error {
	var next atomic.Int64
	var mu sync.Mutex
	var errs []error
	var workers sync.WaitGroup
	names := b.namesKey()
	for range width {
		workers.Go(func() {
			if err := b.host.Thread(); err != nil {
				panic(err) // nothing may be attached outside the host
			}
			for i := int(next.Add(1)) - 1; i < namedContainers; i = int(next.Add(1)) - 1 {
				_, err := namedList(i%namedNetworks, names).add(namedAttachment(i))
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// calm waits until dnetd has looked after all that has just come, a minute at
// most: until it and what it starts take less than a tenth of a processor.
func (b *run) calm() error {
	const tenth = 10 // of the ticks of a second
	pid, err := agent()
	if err != nil {
		return err
	}
	before, err := ticks(pid)
	for range 60 {
		if err != nil {
			return err
		}
		time.Sleep(time.Second)
		var now int
		if now, err = ticks(pid); err == nil && now-before < tenth {
			return nil
		}
		before = now
	}
	return err
}

// ticks returns the processor time that a process and its children that ended
// have had, in 1/100 s (proc(5), /proc/PID/stat).
func ticks(pid int) (sum int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// agent returns dnetd's process.
func agent() (int, error) {
	text, err := os.ReadFile("/run/dcni/dnetd.pid")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// agentSize adds dnetd's memory with all containers.
func (b *run) agentSize() error {
	pid, err := agent()
	if err != nil {
		return err
	}
	kib, err := residentSize(pid)
	if err != nil {
		return err
	}
	b.table.own(fmt.Sprintf("dnetd, %d containers: memory", namedContainers), fmt.Sprint(kib, " KiB"))
	return nil
}

// agentReopens kills dnetd and adds how long a new one takes until every
// container is answered.
func (b *run) agentReopens() error {
	pid, err := agent()
	if err != nil {
		return err
	}
	dnetd, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if err := dnetd.Kill(); err != nil {
		return err
	}
	if _, err := dnetd.Wait(); err != nil { // it became ours: we are the first process here
		return err
	}
	start := time.Now()
	cmd := exec.Command(filepath.Join(b.bin, "dnetd"), "serve", "--log-level", "error", "--metrics", "")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for i := range namedContainers {
		err := b.host.In(named(i), func() error { return awaitName("127.0.0.11:53", "name0", start.Add(time.Minute)) })
		if err != nil {
			return fmt.Errorf("container %d: %w", i, err)
		}
	}
	b.table.own(fmt.Sprintf("dnetd killed, %d containers answered", namedContainers), ms(time.Since(start)))
	return nil
}

// awaitName asks for a name until there is an answer.
func awaitName(server, name string, until time.Time) error {
	conn, err := net.Dial("udp", server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for time.Now().Before(until) {
		_, err := conn.Write(question(name))
		if err == nil {
			if err = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				return err
			}
			if _, err = conn.Read(make([]byte, 512)); err == nil {
				return nil
			}
		}
		time.Sleep(time.Millisecond) // dnetd does not listen yet
	}
	return fmt.Errorf("%s does not answer for %s", server, name)
}

// ask asks dnetd and dnsmasq, which both are in the same container's namespace,
// for names of containers and for names that they have from an upstream, in
// turns, from one client with 100 queries under way.
func (b *run) ask() error {
	if err := writeNames(); err != nil {
		return err
	}
	stop, err := b.startNameServers()
	defer stop()
	if err != nil {
		return err
	}
	rates := map[string]*[2][]int{"local": {}, "cached": {}}
	for range nameRounds {
		for file, of := range rates {
			for which, server := range []string{fmt.Sprint("127.0.0.1:", peerPort), "127.0.0.11:53"} {
				rate, err := b.dnsperf(named(0), server, file)
				if err != nil {
					return err
				}
				of[which] = append(of[which], rate)
			}
		}
	}
	local, cached := rates["local"], rates["cached"]
	b.table.rates("names of containers, beside dnsmasq", [2]int{median(local[0]), median(local[1])}, " /s")
	b.table.rates("names of an upstream, beside dnsmasq", [2]int{median(cached[0]), median(cached[1])}, " /s")
	return nil
}

func median[T cmp.Ordered](list []T) T { return slices.Sorted(slices.Values(list))[len(list)/2] }

// dnsperf returns how many queries of a file are answered in a second, in a
// namespace. All must be.
func (b *run) dnsperf(netns, server, file string) (rate int, err error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return 0, err
	}
	var out []byte
	err = b.host.In(netns, func() (err error) {
		out, err = exec.Command("dnsperf", "-s", host, "-p", port, "-d", "/run/bench."+file, "-l", strconv.Itoa(nameTime)).CombinedOutput()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	if !regexp.MustCompile(`Response codes: +NOERROR \d+ \(100.00%\)\n`).Match(out) || !regexp.MustCompile(`Queries lost: +0 `).Match(out) {
		return 0, fmt.Errorf("dnsperf, %s: not all was answered:\n%s", server, out)
	}
	said := regexp.MustCompile(`Queries per second: +(\d+)`).FindSubmatch(out)
	if said == nil {
		return 0, fmt.Errorf("dnsperf says no rate:\n%s", out)
	}
	return strconv.Atoi(string(said[1]))
}

// writeNames writes what dnsmasq reads, and the queries.
func writeNames() error {
	var local, authority, localQueries, cachedQueries strings.Builder
	for i := range perNetwork {
		fmt.Fprintf(&local, "10.1.0.%d name%d\n", i, i)
		fmt.Fprintf(&localQueries, "name%d A\n", i)
	}
	for i := range hosts {
		fmt.Fprintf(&authority, "192.0.2.%d host%d.example\n", i, i)
		fmt.Fprintf(&cachedQueries, "host%d.example A\n", i)
	}
	return errors.Join(
		os.WriteFile("/run/bench.hosts", []byte(local.String()), 0o644),
		os.WriteFile("/run/bench.authority", []byte(authority.String()), 0o644),
		os.WriteFile("/run/bench.local", []byte(localQueries.String()), 0o644),
		os.WriteFile("/run/bench.cached", []byte(cachedQueries.String()), 0o644),
		os.WriteFile("/run/bench.one", []byte("name1 A\n"), 0o644),
		os.WriteFile("/run/bench.unknown", []byte("unknown.example A\n"), 0o644))
}

// startNameServers starts dnsmasq in the asking container, and what both servers
// ask in their turn, outside: it is what the host's resolv.conf names. What it
// returns ends them.
func (b *run) startNameServers() (stop func(), err error) {
	var running []*exec.Cmd
	stop = func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill() // the run is over either way
			_ = cmd.Wait()
		}
	}
	const local = "127.0.0.1"
	for _, s := range []struct {
		netns, address string
		port           int
		cmd            *exec.Cmd
	}{
		{"outside", testhost.OutsideIPv4, 53, dnsmasq(testhost.OutsideIPv4, 53, "/run/bench.authority")},
		{named(0), local, peerPort, dnsmasq(local, peerPort, "/run/bench.hosts", "--server="+testhost.OutsideIPv4, "--cache-size=10000")},
	} {
		s.cmd.Stderr = os.Stderr
		err := b.host.In(s.netns, func() error {
			if err := s.cmd.Start(); err != nil {
				return err
			}
			running = append(running, s.cmd)
			return awaitTCP(net.JoinHostPort(s.address, strconv.Itoa(s.port)))
		})
		if err != nil {
			return stop, err
		}
	}
	return stop, nil
}

func dnsmasq(address string, port int, file string, more ...string) *exec.Cmd {
	return exec.Command("dnsmasq", append([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--no-resolv", "--no-hosts",
		"--listen-address=" + address, "--bind-interfaces", "--port=" + strconv.Itoa(port), "--addn-hosts=" + file, "--local-ttl=600",
	}, more...)...)
}

// awaitTCP waits until a server listens. It dials on this thread, which is in
// the namespace of the name server.
func awaitTCP(address string) error {
	var err error
	for range 100 {
		var conn net.Conn
		if conn, err = net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// askDocker asks the name servers of Docker and of dnetd for the name of a
// container, in turns: as fast as they answer, and at a steady rate.
func (b *run) askDocker() error {
	d, err := startDocker(nil, "names")
	if errors.Is(err, errNoDocker) {
		fmt.Fprintln(os.Stderr, "bench: not measured beside Docker:", err)
		return nil
	}
	if err != nil {
		return err
	}
	var rates [2][]int
	took := make([]samples, 3)
	for range nameRounds {
		for which, netns := range []string{d.netns[0], named(0)} {
			rate, err := b.dnsperf(netns, "127.0.0.11:53", "one")
			if err != nil {
				return errors.Join(err, d.stop())
			}
			rates[which] = append(rates[which], rate)
			err = b.host.In(netns, func() error {
				more, err := latencies("127.0.0.11:53", "name1", askRate)
				took[which] = append(took[which], more...)
				return err
			})
			if err != nil {
				return errors.Join(err, d.stop())
			}
		}
	}
	b.table.rates("names of containers, beside Docker", [2]int{median(rates[0]), median(rates[1])}, " /s")
	b.table.micros(fmt.Sprintf("... latency at %d/s: p99", askRate), took, 99)
	return d.stop()
}

// flood measures one container's answers while another asks for names that an
// upstream is silent about, as fast as it can.
func (b *run) flood() error {
	const neighbour, rate = namedNetworks, 1000
	took := make([]samples, 3)
	ask := func(which int) error {
		return b.host.In(named(0), func() (err error) {
			took[which], err = latencies("127.0.0.11:53", "name1", rate)
			return err
		})
	}
	if err := ask(0); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Packets to the server outside are dropped from now on: it is silent.
	drop := exec.Command("nft", "add table inet silent; add chain inet silent in { type filter hook input priority 0; policy drop; }")
	if err := b.host.In("outside", drop.Run); err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	cmd := exec.CommandContext(ctx, "dnsperf", "-s", "127.0.0.11", "-d", "/run/bench.unknown", "-l", "60", "-q", "1000")
	if err := b.host.In(named(neighbour), cmd.Start); err != nil {
		return err
	}
	if err := ask(1); err != nil {
		return err
	}
	cancel()
	_ = cmd.Wait() // killed
	quiet, flooded := took[0].percentile(99), took[1].percentile(99)
	b.table.rows = append(b.table.rows, row{"p99 of a name, a neighbour floods", us(quiet), us(flooded), "", ""})
	return nil
}

// residentSize returns how much memory a process holds now, in KiB.
func residentSize(pid int) (int, error) { return memoryOf(pid, "VmRSS") }

// memoryOf returns a line of a process's status (proc(5)), in KiB: VmRSS is all that is in
// memory, RssAnon what is its own, without the pages of its program's file.
func memoryOf(pid int, line string) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	size := regexp.MustCompile(line + `:\s+(\d+) kB`).FindSubmatch(status)
	if size == nil {
		return 0, fmt.Errorf("process %d has no size", pid)
	}
	return strconv.Atoi(string(size[1]))
}
