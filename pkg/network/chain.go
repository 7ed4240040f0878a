package network

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// A Chain is what is known of the list of plugins that an attachment was made by. Each part may
// be missing.
type Chain struct {
	List   json.RawMessage // the list
	Result json.RawMessage // what came of all its plugins
	Values json.RawMessage // by capability, what the runtime told the plugins
}

// A Chained is what plugins behind one of ours change of its interface: it is theirs to
// set, and what is then there is as it should be.
type Chained struct {
	Sysctls map[string]string // by path, as in [wire.Sysctl]
	MAC     string            // of the interface in the sandbox; "": as we made it
	// Tuning is what else of the interface in the sandbox is theirs. The zero Tuning is how we
	// made it. Of a veth it is not compared, of others the MTU is.
	wire.Tuning
	Moved bool // sbr has moved the routes
	// Others are the types of plugins behind ours that may have set more of the interface: what
	// that is, is not known, and it goes with the interface.
	Others []string
}

// Any reports whether anything is known that plugins behind have set, or may have.
func (c Chained) Any() bool {
	return len(c.Sysctls)+len(c.Others) > 0 || c.Tuning != wire.Tuning{} || c.Moved
}

// A chainedConf is what is read of a plugin's part of a list.
type chainedConf struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`
	tuning
	Args struct {
		CNI tuning `json:"cni"`
	} `json:"args"`
	Table       *int   `json:"table"`       // sbr's: the routes are there already
	IngressRate uint64 `json:"ingressRate"` // bandwidth's
	EgressRate  uint64 `json:"egressRate"`
}

// A tuning is what the plugin tuning is told, by its configuration or by args.
type tuning struct {
	Sysctl     map[string]string `json:"sysctl"`
	MTU        *int              `json:"mtu"`
	Promisc    *bool             `json:"promisc"`
	AllMulti   *bool             `json:"allmulti"`
	TxQueueLen *int              `json:"txQLen"`
}

// Behind reads what plugins behind one of a type set.
func (chain Chain) Behind(plugin, ifName string) Chained {
	c := Chained{Sysctls: map[string]string{}}
	var conf struct {
		Plugins []json.RawMessage `json:"plugins"`
	}
	_ = json.Unmarshal(chain.List, &conf) // without a list there are none
	var values struct {
		Bandwidth json.RawMessage `json:"bandwidth"`
	}
	_ = json.Unmarshal(chain.Values, &values)
	behind := false
	for _, data := range conf.Plugins {
		var p chainedConf
		_ = json.Unmarshal(data, &p) // what is no text, that plugin refuses
		if behind {
			c.add(p, ifName, len(values.Bandwidth) > 0)
		}
		behind = behind || p.Type == plugin
	}
	c.MAC = macIn(chain.Result, ifName)
	return c
}

// add adds what one plugin sets. limited says that the runtime limits the container's bandwidth.
func (c *Chained) add(p chainedConf, ifName string, limited bool) {
	for _, t := range []tuning{p.tuning, p.Args.CNI} {
		for key, value := range t.Sysctl {
			c.Sysctls[sysctlPath(key, ifName)] = value
		}
		if p.Type == "tuning" {
			c.tune(t)
		}
	}
	switch p.Type {
	case "tuning", "portmap", "firewall", "ddns": // the latter ones' work is by address, and not the interface's
	case "sbr":
		c.Moved = c.Moved || p.Table == nil
	case "bandwidth":
		if p.IngressRate+p.EgressRate > 0 || p.Capabilities["bandwidth"] && limited {
			c.Others = append(c.Others, p.Type)
		}
	default:
		c.Others = append(c.Others, p.Type)
	}
}

func (c *Chained) tune(t tuning) {
	if t.MTU != nil && *t.MTU != 0 {
		c.MTU = *t.MTU
	}
	if t.Promisc != nil {
		c.Promisc = *t.Promisc
	}
	if t.AllMulti != nil {
		c.AllMulti = *t.AllMulti
	}
	if t.TxQueueLen != nil {
		c.TxQueueLen = t.TxQueueLen
	}
}

// macIn returns the MAC of a sandbox's interface in a result.
func macIn(result []byte, ifName string) (mac string) {
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
			mac = i.MAC
		}
	}
	return mac
}

// sysctlPath returns a setting's path of how the reference plugin tuning is told it.
func sysctlPath(key, ifName string) string {
	key = strings.ReplaceAll(key, "IFNAME", ifName)
	if strings.Contains(key, "/") {
		return strings.Trim(key, "/")
	}
	return strings.ReplaceAll(key, ".", "/")
}

// Apply returns the objects of an attachment as they are once the chain is through. Settings
// of the interface that it has no object for are right behind the link: one that is made again
// has them before it comes up.
func (c Chained) Apply(own []wire.Object) []wire.Object {
	var list []wire.Object
	known := map[string]bool{}
	moved := &wire.MovedRoutes{}
	for _, o := range own {
		switch o := o.(type) {
		case *wire.Sysctl:
			known[o.Key()] = true
		case *wire.Autoconf:
			for _, s := range o.Settings() {
				known[s.Key()] = true
			}
		case *wire.Addr:
			moved.NetNS, moved.Dev = o.NetNS, o.Dev
			moved.Prefixes, moved.Dsts = append(moved.Prefixes, o.Prefix), append(moved.Dsts, o.Prefix.Masked())
		case *wire.Route:
			moved.Dsts = append(moved.Dsts, o.Dst)
		}
	}
	for _, o := range own {
		list = append(list, c.applied(o))
		switch o := o.(type) {
		case *wire.Veth:
			list = append(list, c.settings(o.NetNS, o.Peer, known)...)
		case *wire.Child:
			list = append(list, c.settings(o.NetNS, o.Name, known)...)
		}
	}
	if c.Moved && moved.NetNS != "" {
		list = append(list, moved)
	}
	return list
}

// applied returns one object.
func (c Chained) applied(o wire.Object) wire.Object {
	switch o := o.(type) {
	case *wire.Sysctl:
		if value, ok := c.Sysctls[o.Path]; ok && o.NetNS != "" {
			set := *o
			set.Value = value
			return &set
		}
	case *wire.Autoconf:
		set := *o
		set.Chained = maps.Clone(o.Chained)
		if set.Chained == nil {
			set.Chained = map[string]string{}
		}
		maps.Copy(set.Chained, c.Sysctls)
		return &set
	case *wire.Veth:
		set := *o
		if c.MAC != "" {
			set.MAC = c.MAC
		}
		set.Tuned = c.Tuning
		return &set
	case *wire.Child:
		set := *o
		if c.MAC != "" && o.MAC != "" {
			set.MAC = c.MAC
		}
		if c.MTU != 0 {
			set.MTU = c.MTU
		}
		set.Tuned = c.Tuning
		set.Tuned.MTU = 0 // it is compared, as set.MTU
		return &set
	}
	return o
}

// settings returns the interface's settings that are not known: net/ipv4/conf/eth0/rp_filter.
func (c Chained) settings(netns, dev string, known map[string]bool) (list []wire.Object) {
	for _, path := range slices.Sorted(maps.Keys(c.Sysctls)) {
		s := &wire.Sysctl{NetNS: netns, Path: path, Value: c.Sysctls[path]}
		words := strings.Split(path, "/")
		ofLink := len(words) == 5 && words[0] == "net" && (words[2] == "conf" || words[2] == "neigh") && words[3] == dev
		if ofLink && netns != "" && !slices.Contains(words, "..") && !known[s.Key()] {
			list = append(list, s)
		}
	}
	return list
}
