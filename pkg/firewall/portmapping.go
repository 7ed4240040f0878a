package firewall

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// A PortMapping is a published port as CNI runtimes write it (capability portMappings).
// encoding/json folds the case of its keys, which go-cni capitalises. They are in the order in which
// a record that is read and written again has them.
type PortMapping struct {
	ContainerPort int    `json:"containerPort"`
	HostIP        string `json:"hostIP,omitempty"`
	HostPort      int    `json:"hostPort"` // 0: chosen
	Protocol      string `json:"protocol"` // "": tcp
}

// PortMappings returns ports as a runtime writes them.
func PortMappings(ports []Port) []PortMapping {
	list := make([]PortMapping, len(ports))
	for i, p := range ports {
		list[i] = PortMapping{HostPort: int(p.HostPort), ContainerPort: int(p.ContainerPort), Protocol: p.Protocol}
		if p.HostIP.IsValid() {
			list[i].HostIP = p.HostIP.String()
		}
	}
	return list
}

// maxPorts is how many mappings a container may have: each port of one protocol.
const maxPorts = 65535

// ParsePortMappings reads a list of port mappings. Errors have code 7 and name the field.
func ParsePortMappings(field string, raw []byte) ([]Port, error) {
	var list []PortMapping
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, wire.Errorf(wire.CodeConfig, "%s: must be a list of {hostPort, containerPort, protocol, hostIP}: %v", field, err)
	}
	if len(list) > maxPorts {
		return nil, wire.Errorf(wire.CodeConfig, "%s: %d mappings: must be at most %d", field, len(list), maxPorts)
	}
	ports := make([]Port, 0, len(list))
	for i, m := range list {
		p, err := m.port(fmt.Sprintf("%s[%d].", field, i))
		if err != nil {
			return nil, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func (m PortMapping) port(field string) (Port, error) {
	const most = 65535
	p := Port{Protocol: strings.ToLower(m.Protocol)}
	if p.Protocol == "" {
		p.Protocol = "tcp"
	}
	switch {
	case m.HostPort < 0 || m.HostPort > most:
		return p, wire.Invalid(field+"hostPort", m.HostPort, "must be 0 (chosen) or 1 to 65535")
	case m.ContainerPort < 1 || m.ContainerPort > most:
		return p, wire.Invalid(field+"containerPort", m.ContainerPort, "must be 1 to 65535")
	case !slices.Contains(Protocols(), p.Protocol):
		return p, wire.Invalid(field+"protocol", m.Protocol, "must be tcp, udp or sctp")
	}
	p.HostPort, p.ContainerPort = uint16(m.HostPort), uint16(m.ContainerPort)
	if m.HostIP != "" {
		ip, err := netip.ParseAddr(m.HostIP)
		if err != nil || ip.Zone() != "" || ip.IsMulticast() {
			return p, wire.Invalid(field+"hostIP", m.HostIP, "must be an address of the host, 0.0.0.0, :: or empty")
		}
		p.HostIP = ip.Unmap()
	}
	return p, nil
}
