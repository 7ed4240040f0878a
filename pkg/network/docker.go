package network

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/wire"
)

// dockerOption says which of our keys an option of `docker network create -o`
// means, and how its string reads as JSON.
type dockerOption struct {
	key     string
	json    func(value string) (json.RawMessage, error) // strconv's error
	allowed string
}

// dockerOptions are the bridge driver's options (moby, libnetwork/netlabel and
// drivers/bridge/labels.go). An option with no key of ours is accepted and
// means nothing to a plugin.
var dockerOptions = map[string]dockerOption{
	"com.docker.network.bridge.name":                    {"bridge", asString, ""},
	"com.docker.network.bridge.default_bridge":          {"defaultBridge", asBool, trueOrFalse},
	"com.docker.network.bridge.enable_icc":              {"icc", asBool, trueOrFalse},
	"com.docker.network.bridge.enable_ip_masquerade":    {"masquerade", asBool, trueOrFalse},
	"com.docker.network.bridge.host_binding_ipv4":       {"hostBinding", asString, ""},
	"com.docker.network.bridge.gateway_mode_ipv4":       {"gatewayModeIPv4", asString, ""},
	"com.docker.network.bridge.gateway_mode_ipv6":       {"gatewayModeIPv6", asString, ""},
	"com.docker.network.bridge.inhibit_ipv4":            {"inhibitIPv4", asBool, trueOrFalse},
	"com.docker.network.bridge.trusted_host_interfaces": {"trustedHostInterfaces", asList, ""},
	"com.docker.network.driver.mtu":                     {"mtu", asNumber, "must be a whole number"},
	"com.docker.network.host_ipv4":                      {"snatIPv4", asString, ""},
	"com.docker.network.host_ipv6":                      {"snatIPv6", asString, ""},
	"com.docker.network.enable_ipv6":                    {"ipv6", asBool, trueOrFalse},
	// For dnet, which chooses the interface's name; here CNI_IFNAME is it.
	"com.docker.network.container_iface_prefix": {"", asString, ""},
}

const trueOrFalse = "must be true or false"

func asString(v string) (json.RawMessage, error) { return quote(v), nil }

func asBool(v string) (json.RawMessage, error) {
	b, err := strconv.ParseBool(v)
	return strconv.AppendBool(nil, b), err
}

func asNumber(v string) (json.RawMessage, error) {
	n, err := strconv.Atoi(v)
	return strconv.AppendInt(nil, int64(n), 10), err
}

// asList reads Docker's list of interfaces, which colons separate.
func asList(v string) (json.RawMessage, error) { return json.Marshal(strings.Split(v, ":")) }

// docker replaces the key "options", Docker's names, by ours.
func (o Object) docker() error {
	raw, ok := o["options"]
	if !ok {
		return nil
	}
	delete(o, "options")
	var options map[string]string
	if err := json.Unmarshal(raw, &options); err != nil {
		return wire.Errorf(wire.CodeConfig, "options: must be an object of strings, as in docker network create -o")
	}
	known := slices.Sorted(maps.Keys(dockerOptions))
	for _, name := range slices.Sorted(maps.Keys(options)) {
		option, ok := dockerOptions[name]
		if !ok {
			return unknown("options", name, known)
		}
		value, err := option.json(options[name])
		if err != nil {
			return wire.Invalid("options."+name, options[name], option.allowed)
		}
		if option.key == "" {
			continue
		}
		if err := o.merge(option.key, value, "options."+name); err != nil {
			return err
		}
	}
	return nil
}
