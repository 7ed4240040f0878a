package network

import (
	"encoding/json"
	"slices"

	"dcni/pkg/wire"
)

// rawGuest mirrors the JSON of a configuration without its options.
type rawGuest struct {
	Name string          `json:"name"`
	IPAM json.RawMessage `json:"ipam"`
	DNS  *DNS            `json:"dns"`
}

// Guest is a network that makes no interface and gives no addresses.
type Guest struct {
	Name string
	DNS  *DNS
}

// Guest reads the configuration of such a network. The options that it has besides fill
// a struct, see [Object.Decode]; nil: it has none.
func (c Conf) Guest(options any) (*Guest, error) {
	known := standard
	if options != nil {
		known = slices.Concat(standard, Known(options))
	}
	keys, err := c.Keys(known)
	if err == nil && options != nil {
		err = keys.Decode("", options)
	}
	if err != nil {
		return nil, err
	}
	var raw rawGuest
	if err := keys.Decode("", &raw); err != nil {
		return nil, err
	}
	if raw.IPAM != nil {
		return nil, wire.Errorf(wire.CodeConfig, "ipam: must not be given: network %s gives no addresses", raw.Name)
	}
	return &Guest{Name: raw.Name, DNS: raw.DNS}, nil
}

// HostNetNS is the path of the host's network namespace: the one that the plugin, and so
// the runtime, is in.
const HostNetNS = "/proc/self/ns/net"

// HostPermission is the file by which root allows containers to share the host's network
// namespace. There, a container reaches whatever listens on the host's 127.0.0.1, and a
// user that may write networks into a runtime's configuration need not be trusted with
// that.
func HostPermission() *wire.Permission {
	return &wire.Permission{Path: "/etc/dcni/allow-host-network", What: "to share the host's network"}
}

// SharedLo is lo in that namespace.
func (e Endpoint) SharedLo() *wire.SharedLo {
	return &wire.SharedLo{Owner: e.Attachment, Source: e.Source, Shared: e.Target}
}

// Bind makes the sandbox's path lead to the namespace that it is to share.
func (e Endpoint) Bind() *wire.NetNSBind {
	return &wire.NetNSBind{Owner: e.Attachment, Path: e.NetNS, Source: e.Source, Original: e.Cookie, Shared: e.Target}
}
