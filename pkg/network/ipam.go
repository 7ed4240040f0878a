package network

import (
	"encoding/json"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// IPAM is a network's source of addresses.
type IPAM struct {
	Type string // dipam, cluster (see [IPAMCluster]), or another plugin's name
	// Generation is that of the network in the cluster which the configuration was written
	// for; 0: any.
	Generation int64
	Own        ipam.Config // for dipam; for cluster what the configuration repeats of the network
}

// ParseIPAM reads the ipam section. Without one, addresses come from dipam's
// default pools, as a Docker network's do.
func ParseIPAM(section json.RawMessage) (IPAM, error) {
	return ParseIPAMWithout(ipam.Ungated{})(section)
}

// ParseIPAMWithout is [ParseIPAM] for a network without default gateways of some families.
func ParseIPAMWithout(gateways ipam.Ungated) func(section json.RawMessage) (IPAM, error) {
	return func(section json.RawMessage) (IPAM, error) { return parseIPAM(section, ipam.Raw{Ungated: gateways}) }
}

// ParseIPAMOnLAN is [ParseIPAM] for a network whose gateway is a router of a LAN: it has
// the gateways that the section names, and no default ones.
func ParseIPAMOnLAN(section json.RawMessage) (IPAM, error) {
	return ParseIPAMWithout(ipam.Ungated{IPv4: true, IPv6: true})(section)
}

// parseIPAM reads an ipam section into one with what no key says.
func parseIPAM(section json.RawMessage, raw ipam.Raw) (IPAM, error) {
	if len(section) == 0 || string(section) == "null" {
		section = json.RawMessage(`{"type": "dipam"}`)
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(section, &head); err != nil {
		return IPAM{}, DecodeError(wire.CodeConfig, "ipam", err)
	}
	switch {
	case head.Type == "":
		return IPAM{}, wire.Invalid("ipam.type", head.Type, "must name an IPAM plugin, as dipam")
	case strings.ContainsAny(head.Type, "/\\"):
		return IPAM{}, wire.Invalid("ipam.type", head.Type, "must be a plugin's name, not a path")
	case head.Type == IPAMCluster:
		return IPAM{}, wire.Invalid("ipam.type", head.Type, "is for networks of doverlay only")
	case head.Type != "dipam":
		return IPAM{Type: head.Type}, nil
	}
	if err := Strict(section, "ipam", &raw); err != nil {
		return IPAM{}, err
	}
	own, err := raw.Config()
	return IPAM{Type: head.Type, Own: own}, err
}
