package doctor

import (
	"fmt"
	"net/netip"
	"strings"
)

// Cluster is what the host knows of the cluster that it is a node of.
type Cluster struct {
	Away  string // why its store does not answer; "": it does
	Peers []Peer // the other nodes that are alive
	// WrongSums says that the NIC computes checksums inside VXLAN wrongly, so that the kernel does.
	WrongSums bool
}

// A Peer is another node, and what passes to it and back, as `dnet cluster node ls` says it:
// "ok", "lost", "lost at BYTES", "-".
type Peer struct {
	Name       string
	Address    netip.Addr
	VXLAN, ESP string
}

// cluster finds what keeps nodes of a cluster from each other. ESP is of interest where a
// network is encrypted.
func cluster(f Facts) (list []Finding) {
	if f.Cluster.Away != "" {
		list = append(list, Finding{
			Store, "cluster", "the cluster's store does not answer: " + f.Cluster.Away,
			"containers can't be attached to overlay networks, and nothing new is heard of other nodes",
			"dnet cluster status",
		})
	}
	encrypted := false
	for _, n := range f.Networks {
		encrypted = encrypted || n.Encrypted
	}
	for _, p := range f.Cluster.Peers {
		list = append(list, p.findings(encrypted)...)
	}
	if f.Cluster.WrongSums {
		list = append(list, Finding{
			Checksums, "vxlan", "the NIC computes checksums inside VXLAN wrongly, so the kernel does",
			"no packet; they cost processor time",
			"systemctl restart dclusterd # after an update of the NIC's driver or firmware: it is tested again then",
		})
	}
	return list
}

func (p Peer) findings(encrypted bool) (list []Finding) {
	add := func(id, problem, breaks, fix string) {
		list = append(list, Finding{id, p.Name, fmt.Sprintf(problem, fmt.Sprintf("node %s (%s) and back", p.Name, p.Address)), breaks, fix + " && dnet cluster node ls"})
	}
	let := func(match string) string {
		return fmt.Sprintf("nft insert rule inet filter input ip%s saddr %s %s accept", map[bool]string{true: "6"}[p.Address.Is6()], p.Address, match)
	}
	bytes, shorter := strings.CutPrefix(p.VXLAN, "lost at ")
	switch {
	case shorter:
		add(Tunnel, "VXLAN packets of "+bytes+" bytes do not pass to %s, and shorter ones do",
			"connections between containers open and then hang", "tracepath -n -m 3 "+p.Address.String())
	case p.VXLAN == "lost":
		add(Tunnel, "VXLAN (UDP port 4789) does not pass to %s",
			"containers of overlay networks do not reach those on that node", let("udp dport 4789"))
	}
	if p.ESP == "lost" && encrypted {
		add(Tunnel, "ESP (IP protocol 50) does not pass to %s",
			"containers of encrypted networks do not reach those on that node", let("meta l4proto esp"))
	}
	return list
}
