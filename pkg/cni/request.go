package cni

import (
	"cmp"
	"encoding/json"
	"net"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// A Request is one call of a runtime, read.
type Request struct {
	wire.Attachment
	NetNS   string // CNI_NETNS, may be empty at DEL
	Path    string // CNI_PATH, for delegates
	Version string // of the configuration
	Conf    []byte // standard input

	Args   map[string]string // CNI_ARGS
	Name   string            // the container's name where the runtime tells it, else ""
	Static []netip.Addr
	Ranges [][]ipam.RawRange
	MAC    string
	Ports  []firewall.Port
	// NotGateway has the families in which the network is not the container's gateway network,
	// where dnet says so: Ports are not bound on the host there.
	NotGateway []firewall.Family
	Aliases    []string
	Links      []names.Link      // of the container on the network
	Sysctls    []network.Setting // of the interface
	// Services are those that the container is to be a task of.
	Services []string
	Exposed  []firewall.Exposed // of the container to those which link to it
	// Bandwidth is what the container may receive and send; nil for no limit.
	Bandwidth *network.Bandwidth

	claimed   []string       // the container's names on the network, for the cluster
	annotated names.Identity // what the pod's annotations say
	parent    wire.LinkInfo  // that the interface is to be made on, as ADD found it
	conf      network.Conf   // Conf, split

	Prev *types100.Result // prevResult, or nil

	donor   *network.Donor // whose network namespace the sandbox is to be in, or nil
	source  string         // path of that namespace
	donated []*types.Route // what the donor's result says of routes
}

// maxWord is the limit of the identity's words, in bytes: they are names of
// files.
const maxWord = 255

// ParseRequest reads a call. For DEL and GC, what they don't need is left
// unread: a bad value must not keep a container from being removed.
func ParseRequest(c *Call) (*Request, error) {
	r := &Request{
		Attachment: wire.Attachment{Container: c.ContainerID, IfName: c.IfName},
		NetNS:      c.NetNS,
		Path:       c.Path,
		Conf:       c.Conf,
		Args:       parseArgs(c.Args),
	}
	if err := r.head(); err != nil {
		return nil, err
	}
	r.Name = r.containerName()
	switch {
	case len(r.Container) > maxWord:
		return nil, wire.Errorf(wire.CodeEnv, "CNI_CONTAINERID %q: must be at most %d bytes", r.Container, maxWord)
	case len(r.Network) > maxWord:
		return nil, wire.Errorf(wire.CodeEnv, "name %q: must be at most %d bytes", r.Network, maxWord)
	case !network.ValidName(r.Network):
		return nil, wire.Invalid("name", r.Network, "must be "+network.NameRule)
	}
	return r, nil
}

// head reads what every configuration has.
func (r *Request) head() (err error) {
	if r.conf, err = network.ReadConf(r.Conf); err != nil {
		return err
	}
	head := r.conf.Pick("name", "cniVersion")
	if r.Network, err = word("name", head["name"]); err == nil {
		r.Version, err = word("cniVersion", head["cniVersion"])
	}
	return err
}

// word reads a string; "" where none is given.
func word(key string, raw json.RawMessage) (s string, err error) {
	if given(raw) && json.Unmarshal(raw, &s) != nil {
		err = wire.Errorf(wire.CodeDecode, "%s: must be a string", key)
	}
	return s, err
}

// readRuntime reads what a runtime may ask for besides the configuration. Later
// sources replace earlier ones, as in the reference plugins: CNI_ARGS, then
// args.cni, then runtimeConfig.
func (r *Request) readRuntime() error {
	if err := r.setStatic("CNI_ARGS IP", splitList(r.Args["IP"])); err != nil {
		return err
	}
	if err := r.setMAC("CNI_ARGS MAC", r.Args["MAC"]); err != nil {
		return err
	}
	if err := cmp.Or(r.links(), r.sysctls(), r.notGateway()); err != nil {
		return err
	}
	conf := r.conf.Pick("args", "runtimeConfig", "prevResult")
	if err := r.argsCNI(conf["args"]); err != nil {
		return err
	}
	if err := r.runtimeConfig(conf["runtimeConfig"]); err != nil {
		return err
	}
	return r.prevResult(conf["prevResult"])
}

// links reads what CNI_ARGS says of links.
func (r *Request) links() (err error) {
	if r.Links, err = names.ParseLinks(r.Args[names.ArgLinks]); err != nil {
		return err
	}
	if err := r.services(); err != nil {
		return err
	}
	for _, word := range splitList(r.Args[names.ArgExpose]) {
		list, err := firewall.ParseExposed(word)
		if err != nil {
			return wire.Errorf(wire.CodeEnv, "CNI_ARGS %s: %v", names.ArgExpose, err)
		}
		r.Exposed = append(r.Exposed, list...)
	}
	return nil
}

// sysctls reads what CNI_ARGS says of the interface's settings.
func (r *Request) sysctls() (err error) {
	if text := r.Args[network.ArgSysctls]; text != "" {
		if r.Sysctls, err = network.ParseSettings(text); err != nil {
			return wire.Errorf(wire.CodeEnv, "CNI_ARGS %s: %v", network.ArgSysctls, err)
		}
	}
	return nil
}

// notGateway reads of which families the network is not the gateway network.
func (r *Request) notGateway() (err error) {
	if r.NotGateway, err = network.SplitFamilies(r.Args[network.ArgNotGateway]); err != nil {
		return wire.Errorf(wire.CodeEnv, "CNI_ARGS %s: %v", network.ArgNotGateway, err)
	}
	return nil
}

// parseArgs reads CNI_ARGS, "K=V;K2=V2". A value may hold '='; what is no pair
// is left alone, as unknown keys are.
func parseArgs(s string) map[string]string {
	args := map[string]string{}
	for pair := range strings.SplitSeq(s, ";") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			args[k] = v
		}
	}
	return args
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// containerName is the name that the runtime tells: in Kubernetes one pod of a
// name may be in each namespace.
func (r *Request) containerName() string {
	if name := r.Args["DNET_NAME"]; name != "" {
		return name
	}
	name, ns := r.Args["K8S_POD_NAME"], r.Args["K8S_POD_NAMESPACE"]
	if name != "" && ns != "" {
		return ns + "/" + name
	}
	return name
}

// infoOf returns what is known of the network, for this attachment. A pod of Kubernetes is known by
// the addresses of its first interface, eth0: another one leads out only where gwPriority says so.
func (r *Request) infoOf(d network.Description) network.Info {
	if d.Info.Priority == 0 && r.IfName != "eth0" && r.Args["K8S_POD_INFRA_CONTAINER_ID"] != "" {
		d.Info.Priority = -1
	}
	return d.Info
}

func (r *Request) argsCNI(raw json.RawMessage) error {
	args, err := network.Pick(raw, "args", "cni")
	if err != nil {
		return err
	}
	cni, err := network.Pick(args["cni"], "args.cni", "ips", "mac")
	if err != nil {
		return err
	}
	ips, err := stringsOf("args.cni.ips", cni["ips"])
	if err != nil {
		return err
	}
	if err := r.setStatic("args.cni.ips", ips); err != nil {
		return err
	}
	return r.readMAC("args.cni.mac", cni["mac"])
}

// readMAC reads a MAC. A list of one is taken as well.
func (r *Request) readMAC(field string, raw json.RawMessage) error {
	list, err := stringsOf(field, raw)
	switch {
	case err != nil:
		return wire.Errorf(wire.CodeConfig, "%s %s: must be a string", field, raw)
	case len(list) == 0:
		return nil
	}
	return r.setMAC(field, list[0])
}

// stringsOf reads a string or a list of strings.
func stringsOf(field string, raw json.RawMessage) ([]string, error) {
	if !given(raw) {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return splitList(one), nil
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, wire.Errorf(wire.CodeConfig, "%s %s: must be a list of strings", field, raw)
	}
	return list, nil
}

func (r *Request) setStatic(field string, list []string) error {
	if len(list) == 0 {
		return nil
	}
	addrs, err := ipam.ParseStatic(field, list)
	if err == nil {
		r.Static = addrs
	}
	return err
}

func (r *Request) setMAC(field, s string) error {
	if s == "" {
		return nil
	}
	mac, err := net.ParseMAC(s)
	const group = 1 // the bit of a group address (IEEE 802)
	if err != nil || len(mac) != 6 || mac[0]&group != 0 || mac.String() == "00:00:00:00:00:00" {
		return wire.Invalid(field, s, "must be a unicast Ethernet address, as 02:42:ac:11:00:02")
	}
	r.MAC = mac.String()
	return nil
}

// runtimeConfig reads the capabilities' values.
func (r *Request) runtimeConfig(raw json.RawMessage) error {
	rc, err := network.Pick(raw, "runtimeConfig", "portMappings", "ips", "mac", "ipRanges", "aliases", "bandwidth")
	if err != nil {
		return err
	}
	ips, err := stringsOf("runtimeConfig.ips", rc["ips"])
	if err != nil {
		return err
	}
	if err := r.setStatic("runtimeConfig.ips", ips); err != nil {
		return err
	}
	if err := r.readMAC("runtimeConfig.mac", rc["mac"]); err != nil {
		return err
	}
	if given(rc["ipRanges"]) {
		if err := json.Unmarshal(rc["ipRanges"], &r.Ranges); err != nil {
			return wire.Errorf(wire.CodeConfig, "runtimeConfig.ipRanges %s: must be a list of lists of {subnet, rangeStart, rangeEnd, gateway}", rc["ipRanges"])
		}
	}
	if err := r.bandwidth(rc["bandwidth"]); err != nil {
		return err
	}
	if err := r.aliases(rc["aliases"]); err != nil {
		return err
	}
	return r.portMappings(rc["portMappings"])
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// bandwidth reads the limits of what the container may receive and send.
func (r *Request) bandwidth(raw json.RawMessage) error {
	if !given(raw) {
		return nil
	}
	var b struct {
		network.Bandwidth
		Shaped   []string `json:"shapedSubnets"` // as the reference plugin has them
		Unshaped []string `json:"unshapedSubnets"`
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return wire.Errorf(wire.CodeConfig, "runtimeConfig.bandwidth %s: must be {ingressRate, ingressBurst, egressRate, egressBurst}, numbers of bits", raw)
	}
	if len(b.Shaped)+len(b.Unshaped) > 0 {
		return wire.Errorf(wire.CodeConfig, "runtimeConfig.bandwidth %s: must be without shapedSubnets and unshapedSubnets: a limit is for all that a container receives, or sends", raw)
	}
	if b.Bandwidth != (network.Bandwidth{}) {
		r.Bandwidth = &b.Bandwidth
	}
	return nil
}

func (r *Request) portMappings(raw json.RawMessage) (err error) {
	if given(raw) {
		r.Ports, err = firewall.ParsePortMappings("runtimeConfig.portMappings", raw)
	}
	return err
}

// prevResult reads the result of the plugin before us in the chain, or at
// CHECK the chain's.
func (r *Request) prevResult(raw json.RawMessage) error {
	if !given(raw) {
		return nil
	}
	result, err := readResult(raw, r.Version)
	if err != nil {
		return &wire.Error{Code: wire.CodeConfig, Msg: "prevResult", Err: err}
	}
	r.Prev = result
	return nil
}
