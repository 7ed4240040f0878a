package network

import (
	"encoding/json"

	"dcni/pkg/wire"
)

// rawGuest mirrors the JSON of a configuration that has no options.
type rawGuest struct {
	Name string          `json:"name"`
	IPAM json.RawMessage `json:"ipam"`
	DNS  *DNS            `json:"dns"`
}

// Guest is a network that makes no interface and gives no addresses: nothing
// about it can be chosen.
type Guest struct {
	Name string
	DNS  *DNS
}

// Guest reads the configuration of a network that has no options.
func (c Conf) Guest() (*Guest, error) {
	keys, err := c.Keys(standard)
	if err != nil {
		return nil, err
	}
	var raw rawGuest
	if err := keys.Decode("", &raw); err != nil {
		return nil, err
	}
	if len(raw.IPAM) > 0 && string(raw.IPAM) != "null" {
		return nil, wire.Errorf(wire.CodeConfig, "ipam: must not be given: network %s gives no addresses", raw.Name)
	}
	return &Guest{Name: raw.Name, DNS: raw.DNS}, nil
}
