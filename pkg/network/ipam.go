package network

import (
	"encoding/json"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// IPAM is a network's source of addresses.
type IPAM struct {
	Type string      // dipam, or another plugin's name
	Own  ipam.Config // for dipam
}

// ParseIPAM reads the ipam section. Without one, addresses come from dipam's
// default pools, as a Docker network's do.
func ParseIPAM(section json.RawMessage) (IPAM, error) {
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
	case head.Type != "dipam":
		return IPAM{Type: head.Type}, nil
	}
	var raw ipam.Raw
	if err := Strict(section, "ipam", &raw); err != nil {
		return IPAM{}, err
	}
	own, err := raw.Config()
	return IPAM{Type: head.Type, Own: own}, err
}
