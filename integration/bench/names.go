package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"dcni/pkg/dns"
	"dcni/pkg/names"
)

// The name servers under test, and the one that both of them ask, in the
// namespace "names".
const (
	peerPort      = 5301
	ourPort       = 5302
	authorityPort = 5303
)

// How many names there are, and of which: containers, and hosts elsewhere.
const (
	containers = 1000
	hosts      = 100
)

// How often each server is asked, and for how long.
const (
	nameRounds = 5
	nameTime   = 3 // seconds
)

// names asks dnsmasq and package dns for local names and for names that they
// have from an upstream, in turns, from one client with 100 queries under way.
func (b *run) names() error {
	if err := b.host.NewNetNS("names"); err != nil {
		return err
	}
	return b.host.In("names", func() error {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			return fmt.Errorf("lo: %w: %s", err, out)
		}
		if err := writeNames(); err != nil {
			return err
		}
		stop, err := startNameServers()
		defer stop()
		if err != nil {
			return err
		}
		return errors.Join(b.askNames("names of containers", "local"), b.askNames("names of an upstream, cached", "cached"), b.idleNames())
	})
}

// askNames adds a row with the medians of a file of queries.
func (b *run) askNames(what, file string) error {
	var rates [2][]int
	for range nameRounds {
		for which, port := range []int{peerPort, ourPort} {
			rate, err := dnsperf(port, "/run/bench."+file)
			if err != nil {
				return err
			}
			rates[which] = append(rates[which], rate)
		}
	}
	b.table.ours = true
	b.table.rates(what, [2]int{median(rates[0]), median(rates[1])}, " /s")
	return nil
}

func median(list []int) int { return slices.Sorted(slices.Values(list))[len(list)/2] }

// dnsperf returns how many queries a second are answered. All must be.
func dnsperf(port int, file string) (int, error) {
	out, err := exec.Command("dnsperf", "-s", "127.0.0.1", "-p", strconv.Itoa(port), "-d", file, "-l", strconv.Itoa(nameTime)).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	if !regexp.MustCompile(`Response codes: +NOERROR \d+ \(100.00%\)\n`).Match(out) || !regexp.MustCompile(`Queries lost: +0 `).Match(out) {
		return 0, fmt.Errorf("dnsperf, port %d: not all was answered:\n%s", port, out)
	}
	rate := regexp.MustCompile(`Queries per second: +(\d+)`).FindSubmatch(out)
	if rate == nil {
		return 0, fmt.Errorf("dnsperf says no rate:\n%s", out)
	}
	return strconv.Atoi(string(rate[1]))
}

// writeNames writes what dnsmasq reads, and the queries.
func writeNames() error {
	var local, authority, localQueries, cachedQueries strings.Builder
	for i := range containers {
		fmt.Fprintf(&local, "%s name%d\n", containerAddress(i), i)
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
		os.WriteFile("/run/bench.cached", []byte(cachedQueries.String()), 0o644))
}

func containerAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(1 + i%250)})
}

// startNameServers starts all three and waits until they answer. What it
// returns ends them.
func startNameServers() (stop func(), err error) {
	var running []*exec.Cmd
	stop = func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill() // the run is over either way
			_ = cmd.Wait()
		}
	}
	upstream := fmt.Sprint("127.0.0.1:", authorityPort)
	for _, cmd := range []*exec.Cmd{
		dnsmasq(authorityPort, "/run/bench.authority"),
		dnsmasq(peerPort, "/run/bench.hosts", "--server=127.0.0.1#"+strconv.Itoa(authorityPort), "--cache-size=10000"),
		exec.Command("/proc/self/exe", "nameserver", fmt.Sprint("127.0.0.1:", ourPort), upstream),
	} {
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return stop, err
		}
		running = append(running, cmd)
	}
	for _, port := range []int{authorityPort, peerPort, ourPort} {
		if err := awaitTCP(fmt.Sprint("127.0.0.1:", port)); err != nil {
			return stop, err
		}
	}
	return stop, nil
}

func dnsmasq(port int, file string, more ...string) *exec.Cmd {
	return exec.Command("dnsmasq", append([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--no-resolv", "--no-hosts",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--port=" + strconv.Itoa(port), "--addn-hosts=" + file, "--local-ttl=600",
	}, more...)...)
}

// awaitTCP waits until somebody listens. It dials on this thread, which is in
// the namespace of the name servers.
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

// nameServer serves package dns at an address until it is killed: `nameserver
// ADDRESS UPSTREAM`. With a number for an upstream it serves that many
// addresses beginning with 127.1.0.0, and answers each once.
func nameServer(address, upstream string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	server := dns.NewServer(dns.Config{})
	view := dns.View{Names: thousand().View("web")}
	many, err := strconv.Atoi(upstream)
	if err != nil {
		servers, err := names.ParseServers("upstream", []string{upstream})
		if err != nil {
			return err
		}
		server.SetUpstream(dns.NewUpstream(servers, nil))
		many = 1
	}
	for i := range many {
		if i > 0 {
			at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)}), at.Port())
		}
		if err := serveNames(server, at, view); err != nil {
			return err
		}
	}
	select {}
}

func serveNames(server *dns.Server, at netip.AddrPort, view dns.View) error {
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	_, err = server.Serve(udp, tcp, view)
	return err
}

// thousand has the containers on one network.
func thousand() *names.Table {
	table := new(names.Table)
	for i := range containers {
		table = table.Add(names.Network{Name: "web", TTL: names.DefaultTTL}, names.Entry{
			Container: fmt.Sprintf("%012x", i), IfName: "eth0",
			Names: []string{fmt.Sprint("name", i), fmt.Sprintf("%012x", i)}, Addresses: []netip.Addr{containerAddress(i)},
		})
	}
	return table
}

// idleNames adds the memory of a server of 1,000 containers that have asked and
// are silent.
func (b *run) idleNames() error {
	port := ourPort + 100
	cmd := exec.Command("/proc/self/exe", "nameserver", fmt.Sprint("127.0.0.1:", port), strconv.Itoa(containers))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	const last = containers - 1
	if err := awaitTCP(fmt.Sprintf("127.1.%d.%d:%d", last/250, 1+last%250, port)); err != nil {
		return err
	}
	for i := 1; i < containers; i++ {
		if err := askOnce(fmt.Sprintf("127.1.%d.%d:%d", i/250, 1+i%250, port)); err != nil {
			return err
		}
	}
	kib, err := residentSize(cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.table.numbers("name server of 1,000 containers", [2]int{0, kib}, " KiB")
	b.table.rows[len(b.table.rows)-1].reference = ""
	return nil
}

// askOnce asks for the address of name1 and waits for an answer.
func askOnce(server string) error {
	conn, err := net.Dial("udp", server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("id\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05name1\x00\x00\x01\x00\x01")); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 512))
	return err
}

// residentSize returns how much memory a process holds now, in KiB.
func residentSize(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	size := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if size == nil {
		return 0, fmt.Errorf("process %d has no size", pid)
	}
	return strconv.Atoi(string(size[1]))
}
