package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// ForeignPrefix is what a driver's word begins with that means a CNI plugin's type even
// where it is the name of a driver of ours: "cni:bridge" is the reference bridge.
const ForeignPrefix = "cni:"

// hostLocal is the IPAM plugin of the reference suite whose ranges [Options] can say.
const hostLocal = "host-local"

// A Foreign tells which CNI versions a plugin of another suite knows that is installed on
// the host. The error says that it is not installed.
type Foreign func(cniType string) ([]string, error)

// A foreign is another suite's plugin as a driver: Docker's custom network plugin. Its
// options are the keys of its configuration.
type foreign string

var _ Creator = foreign("")

// Name is the plugin's CNI type.
func (f foreign) Name() string { return string(f) }

// Probes are none: what the plugin makes on the host is not known.
func (foreign) Probes(network.Description) []wire.Object { return nil }

// Configure makes each option a key of the plugin's configuration. A value that is JSON
// (a number, true, a list) is passed on as that, and any other as a string; without a value
// it is true.
func (f foreign) Configure(o *Options, addresses ipam.Raw, _ *bool) (any, error) {
	addresses.Routes = defaultRoutes(addresses)
	conf := map[string]any{"type": string(f), "ipam": addresses, "capabilities": map[string]bool{"ips": true}}
	if o.Internal {
		return nil, fmt.Errorf("--internal: is not for networks of the CNI plugin %s: use what options of its own it has for that, with -o", f)
	}
	for _, key := range slices.Sorted(maps.Keys(o.DriverOptions)) {
		switch key {
		case "", "cniVersion", "name", "type", "ipam", "prevResult", "runtimeConfig":
			return nil, fmt.Errorf("option %q: must be a key of the plugin %s itself: dnet writes this one", key, f)
		}
		conf[key] = jsonValue(o.DriverOptions[key])
	}
	return conf, nil
}

// jsonValue is the value of a key of a plugin's configuration.
func jsonValue(text string) any {
	switch {
	case text == "":
		return true
	case json.Valid([]byte(text)):
		return json.RawMessage(text)
	}
	return text
}

// describe reads what is understood of the plugin's configuration: where the addresses come
// from.
func (f foreign) describe(name string, conf json.RawMessage, ipv6 *bool) (network.Description, error) {
	d := network.Description{Name: name}
	var raw struct {
		IPAM json.RawMessage `json:"ipam"`
	}
	err := json.Unmarshal(conf, &raw)
	if err != nil || raw.IPAM == nil {
		return d, err
	}
	if d.IPAM, err = network.ParseIPAM(raw.IPAM); err == nil {
		d.Families, err = network.ParseFamilies(ipv6, d.IPAM.Own.Subnets)
	}
	return d, err
}

// namesPlugin is the plugin of ours that gives names to containers behind another suite's.
const namesPlugin = "ddns"

// namesBehind is its configuration.
var namesBehind = map[string]any{
	"type":         namesPlugin,
	"capabilities": map[string]bool{"aliases": true, "dns": true, "io.kubernetes.cri.pod-annotations": true},
}

// NamesBehind reports whether a plugin's configuration is the one that `dnet create` writes
// behind another suite's plugin.
func NamesBehind(plugin json.RawMessage) bool {
	var conf map[string]json.RawMessage
	if json.Unmarshal(plugin, &conf) != nil {
		return false
	}
	delete(conf, "capabilities")
	return len(conf) == 1 && string(conf["type"]) == `"`+namesPlugin+`"`
}

// newestVersion chooses the version of a list of which a plugin of another suite is part.
// known are the plugin's, also those of another one in the list, nil for one of ours.
func newestVersion(known, also []string) (string, error) {
	for _, v := range []string{"1.0.0", "0.4.0", "0.3.1", "0.3.0"} {
		if slices.Contains(known, v) && (also == nil || slices.Contains(also, v)) {
			return v, nil
		}
	}
	return "", fmt.Errorf("knows CNI %s: must know one of 0.3.0 to 1.0.0, as all plugins of a network do", strings.Join(known, ", "))
}

// addressKind tells apart where the addresses of a new network come from.
func (o *Options) addressKind() string {
	switch d := cmp.Or(o.IPAMDriver, "default"); d {
	case "default", "dipam":
		return "dipam"
	case "null", "none":
		return "null"
	default:
		return d
	}
}

// checkIPAM refuses an IPAM driver that is not there, or subnets that it can't be told.
func (o *Options) checkIPAM(own bool) error {
	kind := o.addressKind()
	subnets := len(o.Subnets) > 0 || len(o.Pools) > 0 || o.IPv6 != nil && *o.IPv6
	switch {
	case kind == "dipam":
		return nil
	case kind == "null" && own:
		return errors.New("invalid ipam driver: \"null\": a network of dcni's has addresses")
	case kind == "null" && (subnets || len(o.IPAMOptions) > 0):
		return errors.New("--subnet, --ipv6, --ipam-opt: must not be given with --ipam-driver null: the network has no addresses")
	case kind == "null":
		return nil
	case o.Foreign == nil:
		return fmt.Errorf("invalid ipam driver: %q", o.IPAMDriver)
	}
	if _, err := o.Foreign(kind); err != nil {
		return fmt.Errorf("invalid ipam driver: %q: must be default, null, or the type of a CNI IPAM plugin%s", o.IPAMDriver, o.Where)
	}
	if subnets && kind != hostLocal {
		return fmt.Errorf("--subnet, --ipv6: are for --ipam-driver default and %s; what the IPAM plugin %s is told is given with --ipam-opt KEY=VALUE", hostLocal, kind)
	}
	if len(o.Aux) > 0 {
		return errors.New("--aux-address: is for --ipam-driver default only")
	}
	return nil
}

// foreignSection writes the ipam section of another suite's IPAM plugin: its keys are the
// IPAM options.
func (o *Options) foreignSection(subnets []ipam.RawSubnet) (any, error) {
	section := map[string]any{"type": o.addressKind()}
	for key, value := range o.IPAMOptions {
		if key == "type" || key == "" {
			return nil, fmt.Errorf("IPAM option %q: must be a key of the IPAM plugin itself", key)
		}
		section[key] = jsonValue(value)
	}
	if len(subnets) == 0 {
		return section, nil
	}
	var ranges [][]ipam.RawRange // a set of ranges for each address that a container gets
	for _, s := range subnets {
		r := ipam.RawRange{Subnet: s.Subnet, Gateway: s.Gateway}
		if s.IPRange != "" {
			p, err := netip.ParsePrefix(s.IPRange)
			if err != nil {
				return nil, err
			}
			r.RangeStart, r.RangeEnd = ends(p)
		}
		ranges = append(ranges, []ipam.RawRange{r})
	}
	section["ranges"] = ranges
	if section["routes"] == nil {
		section["routes"] = defaultRoutes(ipam.Raw{Subnets: subnets})
	}
	return section, nil
}

// defaultRoutes has another suite's plugin set a default route for each family: ours do so by
// themselves.
func defaultRoutes(raw ipam.Raw) []ipam.RawRoute {
	var routes []ipam.RawRoute
	for _, dst := range []string{"0.0.0.0/0", "::/0"} {
		is6 := dst == "::/0"
		has := func(s ipam.RawSubnet) bool { return s.Subnet != "" && strings.Contains(s.Subnet, ":") == is6 }
		if has(ipam.RawSubnet{Subnet: raw.Subnet}) || slices.ContainsFunc(raw.Subnets, has) {
			routes = append(routes, ipam.RawRoute{Dst: dst})
		}
	}
	return routes
}

// ends returns the first and the last address of a prefix that host-local takes for a range.
func ends(p netip.Prefix) (first, last string) {
	low := p.Masked().Addr()
	high := low.AsSlice()
	for bit := p.Bits(); bit < len(high)*8; bit++ {
		high[bit/8] |= 1 << (7 - bit%8)
	}
	end, _ := netip.AddrFromSlice(high)
	return low.String(), end.String()
}

// ForeignOptions returns what another suite's plugin was told with -o: the keys of its
// configuration. What inspect shows elsewhere is left out.
func ForeignOptions(plugin map[string]json.RawMessage) map[string]string {
	return OptionsOf(plugin, "type", "name", "cniVersion", "ipam", "prevResult", "runtimeConfig", "capabilities", "internal", "dns")
}

// OptionsOf returns the keys of an object but for some, as options are written: a string as it
// is, unless it would be taken for another value, and what is no string as JSON.
func OptionsOf(object map[string]json.RawMessage, besides ...string) map[string]string {
	out := map[string]string{}
	for key, value := range object {
		if slices.Contains(besides, key) {
			continue
		}
		var s string
		if json.Unmarshal(value, &s) == nil && s != "" && !json.Valid([]byte(s)) {
			out[key] = s
			continue
		}
		var b bytes.Buffer
		if json.Compact(&b, value) == nil {
			out[key] = b.String()
		}
	}
	return out
}
