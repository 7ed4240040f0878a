package catalog

import "dcni/pkg/ipam"

// createdOnParent is the configuration of a network on a parent as dnet writes it. Options
// stay under Docker's names, so that dnet inspect shows them as they were given.
type createdOnParent struct {
	Type         string            `json:"type"`
	Capabilities map[string]bool   `json:"capabilities"`
	Internal     bool              `json:"internal,omitempty"`
	IPv6         *bool             `json:"ipv6,omitempty"`
	Options      map[string]string `json:"options,omitempty"`
	Names        struct{}          `json:"names"`
	IPAM         ipam.Raw          `json:"ipam"`
}

// CreateOnParent returns the configuration of a new network on a parent, for a plugin of a
// CNI type. Its containers find one another by name, as in Docker. It has the capabilities
// mac and portMappings also where there is neither, so that a MAC and published ports are
// refused and not left out.
func CreateOnParent(cniType string, o *Options, addresses ipam.Raw, ipv6 *bool) any {
	return createdOnParent{
		Type: cniType, Internal: o.Internal, IPv6: ipv6, Options: o.DriverOptions, IPAM: addresses,
		Capabilities: map[string]bool{
			"aliases": true, "dns": true, "io.kubernetes.cri.pod-annotations": true,
			"ips": true, "mac": true, "portMappings": true,
		},
	}
}
