// Package reach is the table of what reaches what: for each kind of network, each place that
// asks and each address and port that is asked, whether an answer comes. A cell is one such
// question in one family and protocol, with bridge netfilter on or off, and is asked by real
// packets.
//
// docker.txt has what Docker's rules give, by hand. dcni.txt has where dcni does otherwise, and
// engine.txt where the old engine does that tests can run, each with a reason.
// docs/reachability.md is made of the three; `go test ./integration/reach -update` writes it.
// TestReachability, in package integration, compares the first two with what it sees.
package reach

import (
	"fmt"
	"slices"
	"strings"
)

// A Place is where questions come from, or a target.
type Place struct {
	Name  string // in the tables of this package
	Title string // in the document
}

// Askers are the places that ask. "host" is also the name of its namespace.
var Askers = []Place{
	{"host", "host"},
	{"self", "itself"},
	{"same", "same network"},
	{"detour", "by the gateway"},
	{"machine", "on the bridge"},
	{"other", "other network"},
	{"neighbour", "neighbour"},
	{"remote", "remote"},
	{"eth1", "eth1"},
}

// Targets are what is asked for: an address, a colon and a port. Those from "up:90" on are
// what a container of the network asks for elsewhere.
var Targets = []Place{
	{"c:80", "container:80"},
	{"c:81", "container:81"},
	{"c:ping", "ping"},
	{"h:8080", "host:8080"},
	{"h:70", "host:70"},
	{"h:90", "host:90"},
	{"g:8080", "gateway:8080"},
	{"g:90", "gateway:90"},
	{"lo:8080", "loopback:8080"},
	{"lo:91", "loopback:91"},
	{"k:80", "container's link-local:80"},
	{"k:8080", "link-local:8080"},
	{"k:90", "link-local:90"},
	{"up:90", "neighbour:90"},
	{"remote:90", "remote:90"},
	{"d:80", "other:80"},
	{"h:8090", "host:8090"},
	{"g:8090", "gateway:8090"},
}

// inbound is how many of the targets are about the network's own containers and the host.
const inbound = 13

// Answers to a question.
const (
	Yes         = "yes"
	No          = "no"          // silence
	Refused     = "refused"     // at once, by a reset or an ICMP message
	Unreachable = "unreachable" // at once, by the asker's own kernel
	Closed      = "closed"      // a connection that ends without an answer
	AsHost      = "as-host"     // yes, and the server sees the host's address
	AsItself    = "as-itself"   // yes, and the server sees the container's
	AsChosen    = "as-chosen"   // yes, and the server sees the address that the network names
	Either      = "either"      // yes or no, from run to run
	NotAsked    = "-"           // there is no such address, or no way that could be
)

var answers = []string{Yes, No, Refused, Unreachable, Closed, AsHost, AsItself, AsChosen, Either, NotAsked}

// A Cell is one question.
type Cell struct {
	Network, Asker, Target string
	Family                 string // "4" or "6"
	Proto                  string // "tcp", "udp" or "icmp"
	Netfilter              string // "nf1": bridged packets pass the host's IP rules; "nf0": they don't
}

func (c Cell) String() string {
	return fmt.Sprintf("%s %s %s/%s/%s/%s", c.Network, c.Asker, c.Target, c.Family, c.Proto, c.Netfilter)
}

// These are what a cell may have in its last three fields, in the order of the document.
var (
	families  = []string{"4", "6"}
	protos    = []string{"tcp", "udp", "icmp"}
	netfilter = []string{"nf1", "nf0"}
)

// linkLocal reports whether a target's address is link-local, which IPv6 only has.
func linkLocal(target string) bool { return strings.HasPrefix(target, "k:") }

// onLink reports whether a target's address means something to machines on a common link only.
func onLink(target string) bool { return linkLocal(target) || strings.HasPrefix(target, "lo:") }

// Cells returns all questions about a network that can be asked, in order.
func (n *Network) Cells() []Cell {
	var list []Cell
	for _, asker := range Askers {
		for _, target := range Targets {
			for _, c := range n.cells(asker.Name, target.Name) {
				if n.Docker(c) != NotAsked {
					list = append(list, c)
				}
			}
		}
	}
	return list
}

// cells returns the variants of one asker and target.
func (n *Network) cells(asker, target string) []Cell {
	var list []Cell
	for _, family := range families {
		for _, proto := range protos {
			if (proto == "icmp") != (target == "c:ping") {
				continue
			}
			for _, nf := range netfilter {
				list = append(list, Cell{n.Name, asker, target, family, proto, nf})
			}
		}
	}
	return list
}

// Docker returns what Docker's rules give, NotAsked where a cell makes no sense.
func (n *Network) Docker(c Cell) string {
	if linkLocal(c.Target) && c.Family == "4" || onLink(c.Target) && c.Asker == "remote" || n.without(c) {
		return NotAsked
	}
	answer := NotAsked
	for _, l := range n.lines {
		if l.matches(c) {
			answer = l.answer
		}
	}
	return answer
}

// without reports whether the network lacks the asker or the family that a cell is about.
func (n *Network) without(c Cell) bool {
	if c.Asker == "machine" && !n.Adopted() {
		return true
	}
	if n.Family == "" || n.Family == c.Family {
		return false
	}
	return slices.Contains([]string{"self", "same", "detour"}, c.Asker) || linkLocal(c.Target) && c.Asker == "host" ||
		strings.HasPrefix(c.Target, "c:") || strings.HasPrefix(c.Target, "g:")
}

// A line gives cells an answer. Empty lists match all.
type line struct {
	networks, askers []string
	targets          []pattern
	answer           string
}

// A pattern is a target, with what a cell must have besides.
type pattern struct {
	target string
	only   []string // families, protocols and settings
}

func (l line) matches(c Cell) bool {
	if l.networks != nil && !slices.Contains(l.networks, c.Network) || l.askers != nil && !slices.Contains(l.askers, c.Asker) {
		return false
	}
	variant := []string{c.Family, c.Proto, c.Netfilter}
	return slices.ContainsFunc(l.targets, func(p pattern) bool {
		return p.target == c.Target && !slices.ContainsFunc(p.only, func(q string) bool { return !slices.Contains(variant, q) })
	})
}
