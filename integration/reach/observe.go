package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Observe asks all cells of a network, whose containers have the namespaces c1, c2, c3 and d1, and
// returns the answers. setting is that of bridge netfilter; want is what is expected, for which
// it waits. What is NotAsked by that is left out.
func (w *World) Observe(n *Network, setting string, want func(Cell) string) (map[Cell]string, error) {
	defer w.silence()
	if err := w.prepare(n); err != nil {
		return nil, err
	}
	links, err := w.links(n)
	if err != nil {
		return nil, err
	}
	if err := w.listen(n, links); err != nil {
		return nil, err
	}
	list, err := w.ask(n.asked(setting, want), n, links)
	if err != nil {
		return nil, err
	}
	if err := collect(list, func(c Cell) bool { return want(c) == No || want(c) == Either }); err != nil {
		return nil, err
	}
	seen := map[Cell]string{}
	for _, q := range list {
		seen[q.cell] = q.answer()
	}
	return seen, nil
}

// prepare has containers ask also as no runtime lets them, but as those can that have rights over
// their own network.
func (w *World) prepare(n *Network) error {
	containers := map[string][2]string{"c1": n.of(first), "c2": n.of(second), "c3": n.of(third), "d1": otherFirst}
	for ns, own := range containers {
		if err := errors.Join(w.settings(ns), w.ip(ns, "link set lo up")); err != nil {
			return err
		}
		router := gateway
		if ns == "d1" {
			router = otherGateway
		}
		if n.Asks("g:90") || ns == "d1" {
			if err := w.byHost(ns, own, router); err != nil {
				return err
			}
		}
	}
	if n.Adopted() {
		if err := w.onBridge(); err != nil {
			return err
		}
	}
	if !n.Asks("g:90") {
		return nil
	}
	return w.detour(n)
}

// Asks reports whether a target is asked for in any cell.
func (n *Network) Asks(target string) bool {
	return slices.ContainsFunc(n.Cells(), func(c Cell) bool { return c.Target == target })
}

const bridgeNetfilter = "/proc/sys/net/bridge/bridge-nf-call-"

// Settings returns those of bridge netfilter that the kernel has.
func Settings() []string {
	if _, err := os.Stat(bridgeNetfilter + "iptables"); err != nil {
		return []string{"nf0"}
	}
	return netfilter
}

// SetNetfilter has bridged packets of the calling thread's host pass its IP rules, or not.
func SetNetfilter(setting string) error {
	var errs []error
	for _, family := range []string{"iptables", "ip6tables"} {
		err := os.WriteFile(bridgeNetfilter+family, []byte(setting[len("nf"):]), 0)
		if !errors.Is(err, os.ErrNotExist) || setting != "nf0" {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// A link is an interface in a namespace.
type link struct{ ns, name string }

// links returns the link-local addresses that cells of a network are about.
func (w *World) links(n *Network) (map[link]netip.Addr, error) {
	found := map[link]netip.Addr{}
	add := func(ns, name string) error {
		if _, ok := found[link{ns, name}]; ok {
			return nil
		}
		var err error
		found[link{ns, name}], err = w.linkLocal(ns, name)
		return err
	}
	for _, c := range n.Cells() {
		if !linkLocal(c.Target) {
			continue
		}
		to := n.linkTo(c.Asker)
		if c.Target == "k:80" {
			to = link{"c1", "eth0"}
		}
		if err := errors.Join(add(namespaces[c.Asker], n.linkOf(c.Asker)), add(to.ns, to.name)); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// linkOf is the link by which an asker reaches link-local addresses.
func (n *Network) linkOf(asker string) string {
	if asker == "host" {
		return n.Bridge()
	}
	return "eth0"
}

// linkTo is the host's end of that.
func (n *Network) linkTo(asker string) link {
	switch asker {
	case "other":
		return link{"host", otherBridge}
	case "neighbour":
		return link{"host", "eth0"}
	case "eth1":
		return link{"host", "eth1"}
	}
	return link{"host", n.Bridge()}
}

// listen starts all servers.
func (w *World) listen(n *Network, links map[link]netip.Addr) error {
	at := func(ns, name string, port uint16, addrs ...string) error {
		return w.In(ns, func() error {
			for _, addr := range addrs {
				if addr == "" {
					continue
				}
				list, err := serve(name, netip.AddrPortFrom(netip.MustParseAddr(addr), port))
				w.servers = append(w.servers, list...)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	any46 := []string{"0.0.0.0", "::"}
	errs := []error{
		at("c1", "c1", 80, any46...), at("c1", "c1", 81, any46...), at("d1", "d1", 80, any46...),
		at("outside", "outside", 90, any46...), at("remote", "remote", 90, any46...),
		at("host", "host", 91, loopback[:]...), at("host", "host", 90, hostAddress[:]...),
	}
	for i, addr := range n.of(gateway) { // an address for each, so that datagrams come back from it
		if slices.ContainsFunc(n.Cells(), func(c Cell) bool { return c.Target == "g:90" && c.Family == families[i] }) {
			errs = append(errs, at("host", "host", 90, addr))
		}
	}
	for l, addr := range links {
		if l.ns == "host" {
			errs = append(errs, at("host", "host", 90, addr.String()))
		}
	}
	return errors.Join(errs...)
}

// silence ends the servers.
func (w *World) silence() {
	for _, s := range w.servers {
		_ = s.Close() // they answer questions that are asked
	}
	w.servers = nil
}

// asked are the cells with a setting of which something is expected.
func (n *Network) asked(setting string, want func(Cell) string) []Cell {
	return slices.DeleteFunc(n.Cells(), func(c Cell) bool { return c.Netfilter != setting || want(c) == NotAsked })
}

// ask opens the sockets of cells.
func (w *World) ask(cells []Cell, n *Network, links map[link]netip.Addr) ([]*question, error) {
	var list []*question
	for _, asker := range Askers {
		if !slices.ContainsFunc(cells, func(c Cell) bool { return c.Asker == asker.Name }) {
			continue // it has no namespace here
		}
		err := w.In(namespaces[asker.Name], func() error {
			for _, c := range cells {
				if c.Asker != asker.Name {
					continue
				}
				q, err := ask(c, n.address(c, links))
				if err != nil {
					return err
				}
				list = append(list, q)
			}
			return nil
		})
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

// address is what a cell asks for.
func (n *Network) address(c Cell, links map[link]netip.Addr) netip.AddrPort {
	where, text, _ := strings.Cut(c.Target, ":")
	var port uint16
	_, _ = fmt.Sscan(text, &port) // a ping has none
	if where == "k" {
		addr := links[n.linkTo(c.Asker)]
		if c.Target == "k:80" {
			addr = links[link{"c1", "eth0"}]
		}
		zone := links[link{namespaces[c.Asker], n.linkOf(c.Asker)}].Zone()
		return netip.AddrPortFrom(addr.WithZone(zone), port)
	}
	addr := map[string][2]string{
		"c": first, "h": hostAddress, "g": gateway, "lo": loopback, "up": neighbour, "remote": remote, "d": otherFirst,
	}[where][slices.Index(families, c.Family)]
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

// servers are what is to answer for a target; host, for those that are left out.
var servers = map[string]string{
	"c:80": "c1", "c:81": "c1", "k:80": "c1", "h:8080": "c1", "g:8080": "c1", "lo:8080": "c1", "k:8080": "c1",
	"up:90": "outside", "remote:90": "remote", "d:80": "d1", "h:8090": "d1", "g:8090": "d1",
}

// answer is the word for what was said.
func (q *question) answer() string {
	server, peer, answered := strings.Cut(q.said, " from ")
	if !answered {
		return q.said
	}
	if want := servers[q.cell.Target]; server != want && (want != "" || server != "host") {
		return "answered by " + server
	}
	if q.cell.Target != "up:90" && q.cell.Target != "remote:90" {
		return Yes
	}
	own := map[string][2]string{"detour": third, "machine": machine}[q.cell.Asker]
	if q.cell.Asker == "self" {
		own = first
	}
	for word, addrs := range map[string][2]string{AsHost: hostAddress, AsItself: own, AsChosen: chosenAddress} {
		if slices.Contains(addrs[:], peer) {
			return word
		}
	}
	return "as " + peer
}
