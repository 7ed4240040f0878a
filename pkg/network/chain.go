package network

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// A Chained is what plugins behind one of ours change of its interface: it is theirs to
// set, and what is then there is as it should be.
type Chained struct {
	Sysctls map[string]string // by path, as in [wire.Sysctl]
	MAC     string            // of the interface in the sandbox; "": as we made it
	MTU     int               // likewise, in bytes; 0: as we made it. Of a veth it is not compared
}

// ChainedBehind reads what plugins behind one of a type set, out of their list and of
// what came of the whole chain, each of which may be missing.
func ChainedBehind(plugin, ifName string, list, result []byte) Chained {
	c := Chained{Sysctls: map[string]string{}}
	var conf struct {
		Plugins []json.RawMessage `json:"plugins"`
	}
	_ = json.Unmarshal(list, &conf) // without a list there are none
	behind := false
	for _, data := range conf.Plugins {
		var p struct {
			Type   string            `json:"type"`
			Sysctl map[string]string `json:"sysctl"`
			MTU    int               `json:"mtu"` // tuning's
		}
		_ = json.Unmarshal(data, &p) // what is no text, that plugin refuses
		if behind && p.Type == "tuning" && p.MTU != 0 {
			c.MTU = p.MTU
		}
		if behind {
			for key, value := range p.Sysctl {
				c.Sysctls[sysctlPath(key, ifName)] = value
			}
		}
		behind = behind || p.Type == plugin
	}
	var came struct {
		Interfaces []struct {
			Name    string `json:"name"`
			MAC     string `json:"mac"`
			Sandbox string `json:"sandbox"`
		} `json:"interfaces"`
	}
	_ = json.Unmarshal(result, &came)
	for _, i := range came.Interfaces {
		if i.Sandbox != "" && i.Name == ifName {
			c.MAC = i.MAC
		}
	}
	return c
}

// sysctlPath returns a setting's path of how the reference plugin tuning is told it.
func sysctlPath(key, ifName string) string {
	key = strings.ReplaceAll(key, "IFNAME", ifName)
	if strings.Contains(key, "/") {
		return strings.Trim(key, "/")
	}
	return strings.ReplaceAll(key, ".", "/")
}

// Apply returns the objects of an attachment as they are once the chain is through.
func (c Chained) Apply(own []wire.Object) []wire.Object {
	own = slices.Clone(own)
	for i, o := range own {
		switch o := o.(type) {
		case *wire.Sysctl:
			if value, ok := c.Sysctls[o.Path]; ok && o.NetNS != "" {
				set := *o
				set.Value = value
				own[i] = &set
			}
		case *wire.Autoconf:
			set := *o
			set.Chained = maps.Clone(o.Chained)
			if set.Chained == nil {
				set.Chained = map[string]string{}
			}
			maps.Copy(set.Chained, c.Sysctls)
			own[i] = &set
		case *wire.Veth:
			if c.MAC != "" {
				set := *o
				set.MAC = c.MAC
				own[i] = &set
			}
		case *wire.Child:
			set := *o
			if c.MAC != "" && o.MAC != "" {
				set.MAC = c.MAC
			}
			if c.MTU != 0 {
				set.MTU = c.MTU
			}
			own[i] = &set
		}
	}
	return own
}
