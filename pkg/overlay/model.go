package overlay

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"

	"dcni/pkg/wire"
)

// The values in the store, as JSON, but for those of VNIs, addresses and uses, which are
// plain words. None but those of package keys is longer than some 400 bytes.

// Meta is what the whole cluster has.
type Meta struct {
	Schema  int            `json:"schema"`            // 1
	Cluster string         `json:"cluster"`           // its ID, drawn when it was made
	Pools   []netip.Prefix `json:"pools"`             // subnets of networks are taken from, 10.0.0.0/8
	Mask    int            `json:"mask"`              // bits of such a subnet, 24
	Port    int            `json:"port"`              // UDP, of VXLAN: 4789
	PortESP int            `json:"portESP"`           // UDP, of the VXLAN of encrypted networks: 4787, which is never seen on the wire
	NextVNI int            `json:"nextVNI,omitempty"` // of the next network that is given none: a VNI comes again late
	CA      string         `json:"ca,omitempty"`
}

// A Node is a host of the cluster. It stays until it leaves or is removed.
type Node struct {
	ID      string     `json:"id"`      // drawn once an installation
	Address netip.Addr `json:"address"` // of the underlay, where other nodes send to
	MTU     int        `json:"mtu"`     // bytes, of the underlay
	Version string     `json:"version,omitempty"`
	Drained bool       `json:"drained,omitempty"` // its tasks of services get no more connections, also those that come
}

// Alive is there as long as a node's dclusterd renews it.
type Alive struct {
	Boot string `json:"boot"`
}

// Dead is the key of a [Death].
func (k Keys) Dead(node string) string { return k.Prefix + "dead/" + node }

// AliveTTL is how many seconds it outlives the last renewal.
const AliveTTL = 15

// A Network is an overlay network. The revision at which its key was made is its
// generation: a network that is removed and made again is another one.
type Network struct {
	VNI           int               `json:"vni"`
	Subnets       []Subnet          `json:"subnets"`
	MTU           int               `json:"mtu"` // bytes, of its containers' interfaces
	Internal      bool              `json:"internal,omitempty"`
	Attachable    bool              `json:"attachable,omitempty"`
	Encrypted     bool              `json:"encrypted,omitempty"`
	Flood         bool              `json:"flood,omitempty"`
	NodeAddresses bool              `json:"nodeAddresses,omitempty"` // each node has an address of its own on it
	Labels        map[string]string `json:"labels,omitempty"`
	Options       map[string]string `json:"options,omitempty"` // Docker's, but those that are keys here
	Made          string            `json:"made,omitempty"`    // RFC 3339
	ID            string            `json:"id,omitempty"`      // of 64 hexadecimal digits, as Docker shows it
}

// A Subnet is one of a network. It is an [ipam.Subnet] as the store has it.
type Subnet struct {
	Prefix  netip.Prefix          `json:"subnet"`
	Range   netip.Prefix          `json:"ipRange,omitzero"` // where addresses are taken from; zero: the subnet
	Gateway netip.Addr            `json:"gateway"`          // every node's bridge has it; the zero Addr: the network is isolated
	Aux     map[string]netip.Addr `json:"aux,omitempty"`    // reserved, by name
}

// An Endpoint is an attachment of a container to an overlay network, or what a node has of
// its own on one with NodeAddresses. Node and Attachment are its key's.
type Endpoint struct {
	Addresses []netip.Addr `json:"addresses"`
	MAC       string       `json:"mac"`
	Container string       `json:"container"` // CNI_CONTAINERID; "": it is the node's own
	IfName    string       `json:"ifName"`
	Name      string       `json:"name,omitempty"`    // the container's
	Names     []string     `json:"names,omitempty"`   // by which others find it
	Ready     bool         `json:"ready"`             // false: its ADD has not ended, and it is no task of a service yet
	Drained   bool         `json:"drained,omitempty"` // as a task it gets no more connections
	Healthy   []string     `json:"healthy,omitempty"` // services whose check of it its node saw succeed last
	Since     int64        `json:"since,omitempty"`   // seconds since 1970: when it was claimed, or the last three changed
}

// UDP ports of VXLAN, unless [Meta] has others.
const (
	Port    = 4789 // as IANA has it
	PortESP = 4787 // of encrypted networks, which is never seen on the wire
)

// MinVNI is the first VNI of a network, and MaxVNI the last (RFC 7348: 24 bits).
const (
	MinVNI = 4096
	MaxVNI = 1<<24 - 1
)

// Keys are the keys of one cluster, all below one prefix, "/dcni/1/NAME/".
type Keys struct{ Prefix string }

// Meta is the key of a [Meta].
func (k Keys) Meta() string { return k.Prefix + "meta" }

// Recovery is a key whose value is another one each time that the store was lost and made
// again: the nodes put into it what they have, each for itself.
func (k Keys) Recovery() string { return k.Prefix + "recover" }

// Node is the key of a [Node]; of all of them for "".
func (k Keys) Node(name string) string { return k.Prefix + "node/" + name }

// Alive is the key of an [Alive].
func (k Keys) Alive(node string) string { return k.Prefix + "alive/" + node }

// Network is the key of a [Network].
func (k Keys) Network(name string) string { return k.Prefix + "net/" + name }

// VNI is a key whose value is a network's name.
func (k Keys) VNI(vni int) string { return fmt.Sprintf("%svni/%d", k.Prefix, vni) }

// Addr is a key whose value is the address's [Owner], an attachment's or, see
// [ServiceOwner], a service's; the prefix of all of a network
// for the zero address.
func (k Keys) Addr(network string, a netip.Addr) string {
	if !a.IsValid() {
		return k.Prefix + "addr/" + network + "/"
	}
	return k.Prefix + "addr/" + network + "/" + a.String()
}

// Endpoint is the key of an [Endpoint]; the prefix of all of a network for "", "", of
// those of a node for an empty attachment.
func (k Keys) Endpoint(network, node, attachment string) string {
	s := k.Prefix + "ep/" + network + "/"
	if node != "" {
		s += node + "/" + attachment
	}
	return s
}

// Use is a key that each claim writes, so that a network is not removed while one is on
// its way; its value is the node's name.
func (k Keys) Use(network string) string { return k.Prefix + "use/" + network }

// Key is the key of what a node says of its sender's key for encrypted networks, see
// package keys.
func (k Keys) Key(node string) string { return k.Prefix + "key/" + node }

// KeyPages is how many pages have what a node says to the nodes that send to it: a node
// reads one of each other, which is changed for few nodes. A transaction has all of them.
const KeyPages = 64

// KeyPage is the key of a page, 0 to KeyPages-1, of what a node says; of all nodes' for "".
func (k Keys) KeyPage(page int, node string) string {
	return fmt.Sprintf("%skeypage/%02d/%s", k.Prefix, page, node)
}

// KeyRecords are the keys of all that a node says of its keys.
func (k Keys) KeyRecords(node string) []string {
	list := []string{k.Key(node)}
	for page := range KeyPages {
		list = append(list, k.KeyPage(page, node))
	}
	return list
}

// KeyPageOf returns which page is for a node: it reads all others' of that number.
func KeyPageOf(node string) int {
	sum := sha256.Sum256([]byte(node))
	return int(sum[0]) % KeyPages
}

// Rotate is a key whose every change has all nodes draw new keys for encrypted networks.
func (k Keys) Rotate() string { return k.Prefix + "rotate" }

// Member is the key by which a node runs a member of the store, see cmd/dclusterd.
func (k Keys) Member(node string) string { return k.Prefix + "member/" + node }

// Token is the key of what a node may join with.
func (k Keys) Token(id string) string { return k.Prefix + "token/" + id }

// RouterMAC is the MAC of a node's bridge of a network. It is the node's own, so that
// frames to a node's host, as those of an answer that was routed there, reach that one.
func RouterMAC(node, network string) string {
	sum := sha256.Sum256([]byte(node + "\x00" + network))
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3])
}

// Self returns the addresses, one a family, from which a node's host sends to tasks on other nodes what
// comes from itself, and from its containers. Answers come back by the mark of the connection, so
// that of the family that the underlay does not have needs no route: only the node's own must it be.
func Self(node string, local netip.Addr) []netip.Addr {
	sum := sha256.Sum256([]byte(node))
	four := netip.AddrFrom4([4]byte{169, 254, sum[0] &^ 1, sum[1]}) // never 169.254.169.254, which is a cloud's
	six := netip.AddrFrom16([16]byte{0: 0xfd, 1: 'd', 2: 'c', 3: 'n', 4: 'i', 12: sum[0], 13: sum[1], 14: sum[2], 15: sum[3]})
	if local.Is6() {
		return []netip.Addr{four, local}
	}
	return []netip.Addr{local, six}
}

// An Owner is an attachment of a node, as values of addresses have it: "NODE/ATTACHMENT".
// That of a service has no node: "/SERVICE".
type Owner struct{ Node, Attachment string }

func (o Owner) String() string { return o.Node + "/" + o.Attachment }

// ParseOwner reads an owner.
func ParseOwner(value []byte) Owner {
	node, attachment, _ := strings.Cut(string(value), "/")
	return Owner{node, attachment}
}

// AttachmentKey is an attachment as keys have it: [wire.Attachment.ID].
func AttachmentKey(a wire.Attachment) string { return a.ID() }
