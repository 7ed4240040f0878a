package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"dcni/integration/testhost"
)

// A rulesRun measures what rules cost: an ADD beside those of other programs and beside many
// networks, and a packet, beside the same links made by hand with no rules and with Docker's.
type rulesRun struct {
	*run
	nodes   map[string]*testhost.Host
	outside end
}

// The nodes. On one with a dbridge network it is named after its node.
var rulesNodes = []string{"plain", "permits", "crowded", "hand", "docker", "one", "many", "reference", "iptables"}

// rules measures in nodes of their own. It makes the host a wire, and so comes last.
func (b *run) rules() error {
	if b.ours == nil {
		return nil
	}
	b.table.peersOf = "What rules cost"
	r, done, err := b.wire(rulesNodes)
	defer done()
	if err != nil {
		return err
	}
	return errors.Join(r.adds(), r.links(), r.published(), r.backends())
}

// wire makes the host a wire between nodes. done ends what runs in them.
func (b *run) wire(names []string) (r *rulesRun, done func(), err error) {
	r = &rulesRun{run: b, nodes: map[string]*testhost.Host{}, outside: end{b.host, "outside", testhost.OutsideIPv4}}
	done = func() {
		for _, n := range r.nodes {
			_, _ = n.Kill(regexp.MustCompile("")) // what a daemon left runs on
		}
		b.host.Enter()
	}
	plugins, err := filepath.Abs(b.bin)
	if err != nil {
		return r, done, err
	}
	nodes, err := b.host.NewNodes(plugins, 1500, names...)
	for i, n := range nodes {
		r.nodes[names[i]] = n
	}
	return r, done, err
}

// bridgeList is a dbridge network with a /16, and more in its configuration.
func bridgeList(name string, network int, more string) *list {
	return mustList(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [{"type": "dbridge"%s, "capabilities": {"portMappings": true},
		"ipam": {"type": "dipam", "subnet": "10.%d.0.0/16"}}]}`, name, more, network))
}

// sh runs a shell script in a node.
func (r *rulesRun) sh(node, script string) error {
	r.nodes[node].Enter()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		return fmt.Errorf("node %s: %w: %s", node, err, out)
	}
	return nil
}

// attach makes a container on a network of a node.
func (r *rulesRun) attach(node, name string, l *list, ports ...map[string]any) (end, error) {
	n := r.nodes[node]
	n.Enter()
	if err := n.NewNetNS(name); err != nil {
		return end{}, err
	}
	rt := container(name)
	rt.CapabilityArgs = map[string]any{"portMappings": ports}
	address, err := l.add(rt)
	return end{n, name, address}, err
}

// adds compares an ADD on a plain host with one where another program's chain drops, and with
// one that has 100 networks.
func (r *rulesRun) adds() error {
	kinds := []string{"plain", "permits", "crowded"}
	if err := r.sh("permits", "iptables -P FORWARD DROP"); err != nil {
		return err
	}
	for i := range 100 {
		name := fmt.Sprint("n", i)
		if _, err := r.attach("crowded", name, bridgeList(name, 100+i, "")); err != nil {
			return err
		}
	}
	for _, kind := range kinds {
		if _, err := r.attach(kind, "resident", bridgeList(kind, 99, "")); err != nil {
			return err
		}
	}
	adds, err := r.timed(100, 0, func(i int) (string, *list) { return kinds[i], bridgeList(kinds[i], 99, "") }, len(kinds))
	if err != nil {
		return err
	}
	r.table.overlay("ADD beside FORWARD DROP, to a plain host: p50", "%.1f ms", pair(adds, 0, 1), lower, 1.1)
	r.table.overlay("ADD beside 100 networks, to a plain host: p50", "%.1f ms", pair(adds, 0, 2), lower, 1.1)
	return nil
}

// backends compares an ADD with a port by iptables with one by the reference's plugins.
func (r *rulesRun) backends() error {
	lists := map[string]*list{"reference": referenceList(), "iptables": bridgeList("iptables", 99, `, "firewall": "iptables"`)}
	for _, node := range []string{"reference", "iptables"} {
		if _, err := r.attach(node, "resident", lists[node]); err != nil {
			return err
		}
	}
	adds, err := r.timed(20, 1, func(i int) (string, *list) {
		node := []string{"reference", "iptables"}[i]
		return node, lists[node]
	}, 2)
	if err != nil {
		return err
	}
	r.table.overlay("ADD by iptables, one port, to the reference: p50", "%.1f ms", pair(adds, 0, 1), lower, 0.33)
	return nil
}

// timed times ADDs of some ways by turns, in milliseconds.
func (r *rulesRun) timed(rounds, ports int, way func(int) (node string, l *list), ways int) ([][]float64, error) {
	took := make([][]float64, ways)
	for i := range rounds + 1 {
		for turn := range ways {
			w := (turn + i) % ways
			node, l := way(w)
			n := r.nodes[node]
			n.Enter()
			if i == 0 {
				if err := n.NewNetNS(sandbox(0)); err != nil {
					return nil, err
				}
			}
			add, _, err := l.both(attachment(0, ports))
			if err != nil {
				return nil, err
			}
			if i > 0 {
				took[w] = append(took[w], float64(add)/float64(time.Millisecond))
			}
		}
	}
	return took, nil
}

func pair(figures [][]float64, peer, ours int) [2][]float64 {
	return [2][]float64{figures[peer], figures[ours]}
}

// byHand makes a bridge with two containers in a node, as an administrator would.
func (r *rulesRun) byHand(node, rules string) (ends [2]end, err error) {
	n := r.nodes[node]
	n.Enter()
	script := "sysctl -qw net.ipv4.ip_forward=1; ip link add br0 type bridge; ip addr add 10.99.0.1/16 dev br0; ip link set br0 up\n"
	for i := range ends {
		ends[i] = end{n, fmt.Sprint(node, i), fmt.Sprint("10.99.0.", i+2)}
		if err := n.NewNetNS(ends[i].netns); err != nil {
			return ends, err
		}
		script += strings.ReplaceAll(fmt.Sprintf(`ip link add h%d type veth peer name eth0 netns NS; ip link set h%[1]d master br0 up
			ip -n NS addr add %s/16 dev eth0; ip -n NS link set eth0 up; ip -n NS route add default via 10.99.0.1
			`, i, ends[i].address), "NS", ends[i].netns)
	}
	return ends, r.sh(node, script+rules)
}

// noRules has only what a way out needs.
const noRules = `nft add table ip nat; nft 'add chain ip nat post { type nat hook postrouting priority 100; }'
	nft add rule ip nat post ip saddr 10.99.0.0/16 oifname != br0 masquerade`

// dockersRules are those of Docker 20.10 with one network and a published port.
const dockersRules = `iptables -P FORWARD DROP
	for chain in DOCKER DOCKER-USER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2; do iptables -N $chain; done
	iptables -A DOCKER-USER -j RETURN
	iptables -A DOCKER-ISOLATION-STAGE-1 -i br0 ! -o br0 -j DOCKER-ISOLATION-STAGE-2
	iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
	iptables -A DOCKER-ISOLATION-STAGE-2 -o br0 -j DROP
	iptables -A DOCKER-ISOLATION-STAGE-2 -j RETURN
	iptables -A FORWARD -j DOCKER-USER
	iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
	iptables -A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	iptables -A FORWARD -o br0 -j DOCKER
	iptables -A FORWARD -i br0 ! -o br0 -j ACCEPT
	iptables -A FORWARD -i br0 -o br0 -j ACCEPT
	iptables -A DOCKER -d 10.99.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT
	iptables -t nat -N DOCKER
	iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
	iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
	iptables -t nat -A POSTROUTING -s 10.99.0.0/16 ! -o br0 -j MASQUERADE
	iptables -t nat -A POSTROUTING -s 10.99.0.2/32 -d 10.99.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
	iptables -t nat -A DOCKER -i br0 -j RETURN
	iptables -t nat -A DOCKER ! -i br0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.99.0.2:80`

// links compares what two containers of one network send each other, and what one sends
// outside, with the same links by hand, with and without bridge netfilter.
func (r *rulesRun) links() error {
	var ways [3][2]end
	var err error
	if ways[0], err = r.byHand("hand", noRules); err != nil {
		return err
	}
	if ways[1], err = r.byHand("docker", dockersRules); err != nil {
		return err
	}
	for i := range ways[2] {
		if ways[2][i], err = r.attach("plain", fmt.Sprint("talks", i), bridgeList("plain", 99, "")); err != nil {
			return err
		}
	}
	for filtered := range 2 {
		for _, node := range []string{"hand", "docker", "plain"} {
			set := fmt.Sprint("sysctl -qw net.bridge.bridge-nf-call-iptables=", filtered, " net.bridge.bridge-nf-call-ip6tables=", filtered)
			if err := r.sh(node, set); err != nil {
				return err
			}
		}
		to := func(way int) end { return ways[way][1] }
		if err := r.compare(fmt.Sprintf("container to container, bridge-nf %d, TCP", filtered), ways, to); err != nil {
			return err
		}
	}
	return r.compare("way out, masqueraded, TCP", ways, func(int) end { return r.outside })
}

func (r *rulesRun) compare(what string, ways [3][2]end, to func(way int) end) error {
	const rounds = 11
	sent := make([][]float64, len(ways))
	for i := range rounds {
		for turn := range ways {
			way := (turn + i) % len(ways)
			f, err := transfer(ways[way][0], to(way))
			if err != nil {
				return err
			}
			sent[way] = append(sent[way], f)
		}
	}
	r.table.overlay(what+", to no rules", "%.2f GB/s", pair(sent, 0, 2), higher, 0.98)
	r.table.overlay("... to Docker's rules", "%.2f GB/s", pair(sent, 1, 2), higher, 1)
	return nil
}

// published compares a connection, and a packet of one, to the last of 10,000 published ports
// with one to the only published port.
func (r *rulesRun) published() error {
	const many = 10000
	var ends [2]end // by which the container's port is reached
	for i, node := range []string{"one", "many"} {
		ports := make([]map[string]any, []int{1, many}[i])
		for p := range ports {
			ports[p] = map[string]any{"hostPort": 10000 + p, "containerPort": 80 + p, "protocol": "tcp"}
		}
		c, err := r.attach(node, "serves", bridgeList(node, 99, ""), ports...)
		if err != nil {
			return err
		}
		last := len(ports) - 1
		stop, err := echo(end{c.host, c.netns, fmt.Sprintf("%s:%d", c.address, 80+last)})
		if err != nil {
			return err
		}
		defer stop()
		ends[i] = end{c.host, "", fmt.Sprintf("%s:%d", r.nodes[node].IPv4, 10000+last)}
	}
	for _, row := range []struct {
		what    string
		measure func(from end, to string) (float64, error)
	}{{"a connection to one of 10,000 ports, to the only one", connections}, {"... a packet there and back", packets}} {
		took, err := inTurns(21, func(way int) (float64, error) { return row.measure(r.outside, ends[way].address) })
		if err != nil {
			return err
		}
		r.table.overlay(row.what, "%.0f /s", took, higher, 0.98)
	}
	return nil
}

// What is there on the crowded hosts of limits.
const (
	limitNetworks = 500
	limitPorts    = 10000
	limitLeases   = 60000
)

// limits measures an ADD with a port beside as much as a host is meant to take, and what ADD does
// with many ports of its own. It makes the host a wire, and so comes last.
func (b *run) limits() error {
	if b.ours == nil {
		return nil
	}
	b.table.peersOf = "Beside as much as a host is meant to take"
	kinds := []string{"plain", "networks", "ports", "leases"}
	r, done, err := b.wire(kinds)
	defer done()
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		if _, err := r.attach(kind, "resident", bridgeList(kind, 99, "")); err != nil {
			return err
		}
	}
	if err := errors.Join(r.networks(), r.ports(), r.leases()); err != nil {
		return err
	}
	adds, err := r.timed(b.rounds, 1, func(i int) (string, *list) { return kinds[i], bridgeList(kinds[i], 99, "") }, len(kinds))
	if err != nil {
		return err
	}
	for i, what := range []string{fmt.Sprint(limitNetworks, " networks"), fmt.Sprint(limitPorts, " published ports"), fmt.Sprint(limitLeases, " leases of a /16")} {
		b.table.overlay("ADD beside "+what+", to a plain host: p50", "%.1f ms", pair(adds, 0, i+1), lower, []float64{2.5, 1.25, 1.25}[i])
	}
	return r.chosen()
}

// networks has a container on each of many.
func (r *rulesRun) networks() error {
	for i := range limitNetworks {
		name := fmt.Sprint("n", i)
		l := mustList(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [{"type": "dbridge",
			"ipam": {"type": "dipam", "subnet": "10.%d.%d.0/24"}}]}`, name, 100+i/250, i%250))
		if _, err := r.attach("networks", name, l); err != nil {
			return err
		}
	}
	return nil
}

// mappings are published ports, one after another; from 0: to be chosen.
func mappings(from, n int) (list []map[string]any) {
	for i := range n {
		host := 0
		if from > 0 {
			host = from + i
		}
		list = append(list, map[string]any{"hostPort": host, "containerPort": 1 + i, "protocol": "tcp"})
	}
	return list
}

// ports has many, a hundred of a container.
func (r *rulesRun) ports() error {
	const each = 100
	for i := range limitPorts / each {
		if _, err := r.attach("ports", fmt.Sprint("p", i), bridgeList("ports", 99, ""), mappings(20000+i*each, each)...); err != nil {
			return err
		}
	}
	return nil
}

// leases writes many as ADD does, and has one more ADD find them.
func (r *rulesRun) leases() error {
	r.nodes["leases"].Enter()
	const dir = "/var/lib/dcni/leases/leases/"
	epoch, err := os.ReadFile("/run/dcni/epoch")
	if err != nil {
		return err
	}
	word := regexp.MustCompile(`[0-9a-f]+`).Find(epoch)
	a := netip.MustParseAddr("10.99.1.0")
	for i := range limitLeases {
		owner := fmt.Sprint("k", i)
		if err := errors.Join(os.Symlink(fmt.Sprintf("%s/eth0@%s", owner, word), dir+a.String()), os.Mkdir(dir+"by-owner/"+owner, 0o755),
			os.Symlink(a.String(), dir+"by-owner/"+owner+"/eth0")); err != nil {
			return err
		}
		a = a.Next()
	}
	_, err = r.attach("leases", "finds", bridgeList("leases", 99, ""))
	return err
}

// chosen compares ports that are chosen with ports that are named.
func (r *rulesRun) chosen() error {
	n := r.nodes["plain"]
	n.Enter()
	if err := n.NewNetNS("many"); err != nil {
		return err
	}
	l, rt := bridgeList("plain", 99, ""), container("many")
	for _, ports := range []int{1000, 20000} {
		var took [2][]float64
		for range 5 {
			for which, from := range []int{1000, 0} {
				rt.CapabilityArgs = map[string]any{"portMappings": mappings(from, ports)}
				add, _, err := l.both(rt)
				if err != nil {
					return err
				}
				took[which] = append(took[which], float64(add)/float64(time.Millisecond))
			}
		}
		r.table.overlay(fmt.Sprintf("ADD with %d ports chosen, to ports named: p50", ports), "%.0f ms", took, lower, 3)
	}
	return nil
}
