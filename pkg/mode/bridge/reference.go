package bridge

import (
	"cmp"
	"encoding/json"
	"strconv"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

// rawReference are the keys of the reference plugin bridge that dbridge does not have
// (containernetworking/plugins, plugins/main/bridge). They are taken where they say
// what dbridge does anyway. dbridge's manual has the table, and the reasons for people.
type rawReference struct {
	HairpinMode               *bool             `json:"hairpinMode"`
	IsGateway                 *bool             `json:"isGateway"`
	IsDefaultGateway          *bool             `json:"isDefaultGateway"`
	ForceAddress              *bool             `json:"forceAddress"`
	IPMasqBackend             *string           `json:"ipMasqBackend"`
	PromiscMode               *bool             `json:"promiscMode"`
	VLAN                      *int              `json:"vlan"`
	VLANTrunk                 []json.RawMessage `json:"vlanTrunk"`
	PreserveDefaultVLAN       *bool             `json:"preserveDefaultVlan"` // means nothing without a VLAN
	MACSpoofCheck             *bool             `json:"macspoofchk"`
	EnableDAD                 *bool             `json:"enabledad"`
	DisableContainerInterface *bool             `json:"disableContainerInterface"`
	PortIsolation             *bool             `json:"portIsolation"`
}

// check refuses what says otherwise than dbridge does.
func (r *rawReference) check(b *Bridge) error {
	for _, k := range []struct {
		key, given, must, why string
	}{
		{"hairpinMode", boolText(r.HairpinMode), "true", "a container reaches the ports that it publishes"},
		{"isGateway", boolText(r.IsGateway), strconv.FormatBool(b.hasGateway()), `"inhibitIPv4" and the gateway modes say whether the bridge has a gateway's address`},
		{"isDefaultGateway", boolText(r.IsDefaultGateway), strconv.FormatBool(!b.Internal), `"internal" says whether containers have a default route`},
		{"forceAddress", boolText(r.ForceAddress), "false", "no address of a bridge is taken away for another"},
		{"ipMasqBackend", stringText(r.IPMasqBackend), cmp.Or(b.Firewall, firewall.NFTables), `"firewall" says which it is`},
		{"promiscMode", boolText(r.PromiscMode), "false", "hairpin mode does the same"},
		{"vlan", intText(r.VLAN), "0", "ports of the bridge have no VLAN"},
		{"vlanTrunk", trunkText(r.VLANTrunk), "[]", "ports of the bridge have no VLAN"},
		{"macspoofchk", boolText(r.MACSpoofCheck), strconv.FormatBool(b.AntiSpoof), `"antiSpoof" says whether MACs and addresses are checked`},
		{"enabledad", boolText(r.EnableDAD), "false", "an address is usable at once: dipam gives none twice"},
		{"disableContainerInterface", boolText(r.DisableContainerInterface), "false", "the container's interface is up"},
		{"portIsolation", boolText(r.PortIsolation), strconv.FormatBool(!b.ICC), `"icc" says whether containers reach each other`},
	} {
		if k.given != "" && k.given != k.must {
			return wire.Errorf(wire.CodeConfig, "%s %s: must be %s with dbridge, or left out: %s", k.key, k.given, k.must, k.why)
		}
	}
	return nil
}

func boolText(p *bool) string {
	if p == nil {
		return ""
	}
	return strconv.FormatBool(*p)
}

func intText(p *int) string {
	if p == nil {
		return ""
	}
	return strconv.Itoa(*p)
}

func stringText(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func trunkText(list []json.RawMessage) string {
	if len(list) == 0 {
		return ""
	}
	return "[...]"
}
