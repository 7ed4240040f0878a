// Package cluster is what `dnet cluster` and dclusterd say to each other, through
// dclusterd's socket (package remote): the verbs below with their arguments and answers,
// as JSON. It also starts dclusterd.
package cluster

import (
	"fmt"
	"net/netip"
	"time"

	"dcni/pkg/trust"
)

// The verbs.
const (
	Init       = "init"     // InitArgs -> Made
	Join       = "join"     // JoinArgs -> Made
	Leave      = "leave"    // LeaveArgs
	Status     = "status"   // -> StatusReply
	Token      = "token"    // TokenArgs -> TokenReply
	Nodes      = "nodes"    // NodesArgs -> []NodeInfo
	RemoveNode = "node rm"  // NodeArgs
	Members    = "members"  // MembersArgs
	Rotate     = "rotate"   // other keys of encrypted networks now
	Renew      = "renew"    // another certificate now
	Snapshot   = "snapshot" // FileArgs -> SnapshotReply
	Restore    = "restore"  // FileArgs
	Reset      = "reset"    // ForceArgs:    // this node's member alone is the store from now on
	Sync       = "sync"     // this node's networks are as the store has them
	Publish    = "publish"  // -> map[string]string: this node has the ports of services; which networks' it can't have, and why
)

// External is a store that is not the cluster's own.
type External struct {
	Endpoints []string `json:"endpoints"`    // URLs
	CA        string   `json:"ca,omitempty"` // paths
	Cert      string   `json:"cert,omitempty"`
	Key       string   `json:"key,omitempty"`
	Prefix    string   `json:"prefix"` // of the cluster's keys, "/dcni/1/NAME/"
}

// Self is how a node calls itself.
type Self struct {
	Name      string `json:"name,omitempty"`      // "": the host's name
	Advertise string `json:"advertise,omitempty"` // an address, or an interface; "": found
}

// InitArgs make a cluster.
type InitArgs struct {
	Self
	DataDir  string    `json:"dataDir,omitempty"` // of the store's member
	External *External `json:"external,omitempty"`
	// Recover makes the store of this node's cluster anew: all else is lost, and the nodes
	// put into it what they run.
	Recover bool `json:"recover,omitempty"`
	Force   bool `json:"force,omitempty"` // Recover: also if the store answers
}

// JoinArgs make the host a node of a cluster.
type JoinArgs struct {
	Self
	Address  string    `json:"address,omitempty"` // HOST:PORT of a join door
	Token    string    `json:"token,omitempty"`
	DataDir  string    `json:"dataDir,omitempty"`
	External *External `json:"external,omitempty"`
}

// Made is the node that the host has become.
type Made struct {
	Node    string     `json:"node"`
	Cluster string     `json:"cluster"` // ID
	Address netip.Addr `json:"address"`
	Kind    trust.Kind `json:"kind"`
	// Warnings say what does not pass to other nodes, of a host that joined.
	Warnings []string `json:"warnings,omitempty"`
}

// LeaveArgs take the host out of its cluster.
type LeaveArgs struct {
	Force bool `json:"force,omitempty"` // also with containers, and if the store is away
}

// TokenArgs ask for a token.
type TokenArgs struct {
	Kind trust.Kind    `json:"kind"`
	TTL  time.Duration `json:"ttl"` // nanoseconds
}

// TokenReply is one.
type TokenReply struct {
	Token   string    `json:"token"`
	Door    string    `json:"door"` // HOST:PORT where it is good
	Expires time.Time `json:"expires"`
}

// A StoreMember is a member of the store, as a node sees it.
type StoreMember struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Leader  bool   `json:"leader,omitempty"`
	Learner bool   `json:"learner,omitempty"`
	Version string `json:"version,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"` // of its data
	Error   string `json:"error,omitempty"` // why it is not healthy
}

// StatusReply is a node's view of the cluster.
type StatusReply struct {
	Node      string        `json:"node,omitempty"` // "": the host is in no cluster
	ID        string        `json:"id,omitempty"`
	Cluster   string        `json:"cluster,omitempty"`
	Role      string        `json:"role,omitempty"` // member, client
	Address   netip.Addr    `json:"address,omitzero"`
	MTU       int           `json:"mtu,omitempty"`
	External  bool          `json:"external,omitempty"`
	Cert      time.Time     `json:"certificate,omitzero"` // until when the node's holds
	Members   []StoreMember `json:"members"`
	Wanted    int           `json:"wanted,omitempty"` // how many members there are to be
	Revision  int64         `json:"revision,omitempty"`
	Nodes     int           `json:"nodes"`
	Alive     int           `json:"alive"`
	Networks  int           `json:"networks"`
	Endpoints int           `json:"endpoints"`
	Queued    int           `json:"queued,omitempty"` // releases that wait for the store
	// ComputeSums says that the NIC computes checksums inside VXLAN wrongly, so that the kernel does.
	ComputeSums bool          `json:"computeSums,omitempty"`
	Warnings    []string      `json:"warnings,omitempty"`
	Error       string        `json:"error,omitempty"`    // why the store is away
	Snapshot    *SnapshotInfo `json:"snapshot,omitempty"` // the last daily one; nil: none yet
}

// A SnapshotInfo is a daily snapshot of the store.
type SnapshotInfo struct {
	Node  string    `json:"node"`
	Path  string    `json:"path"` // there
	Time  time.Time `json:"time"`
	Bytes int64     `json:"bytes"`
}

// NodeInfo is a node of the cluster.
type NodeInfo struct {
	Name      string     `json:"name"`
	ID        string     `json:"id"`
	Address   netip.Addr `json:"address"`
	MTU       int        `json:"mtu"`
	Version   string     `json:"version,omitempty"`
	Alive     bool       `json:"alive"`
	Member    bool       `json:"member,omitempty"`
	Self      bool       `json:"self,omitempty"`
	Endpoints int        `json:"endpoints"`
	// Addresses are its own on networks with node addresses, by network.
	Addresses map[string][]netip.Addr `json:"addresses,omitempty"`
	KeptUntil time.Time               `json:"keptUntil,omitzero"` // of one that died: its addresses are kept for it
	Unread    string                  `json:"unread,omitempty"`   // why what the store has of it can't be read
	// VXLAN and ESP are the paths to it and back.
	VXLAN Path `json:"vxlan,omitzero"`
	ESP   Path `json:"esp,omitzero"`
}

// States of a Path.
const (
	Passes = "ok"
	Lost   = "lost"
)

// A Path is whether packets of one kind pass to a node and back, as probes found it. The
// zero value is one that was not probed.
type Path struct {
	State string    `json:"state"`
	Since time.Time `json:"since,omitzero"`
	Bytes int       `json:"bytes,omitempty"` // lost: packets of this size only, shorter ones pass
}

func (p Path) String() string {
	switch {
	case p.State == "":
		return "-"
	case p.Bytes > 0:
		return fmt.Sprintf("%s at %d", p.State, p.Bytes)
	}
	return p.State
}

// NodesArgs list nodes.
type NodesArgs struct {
	Quick bool `json:"quick,omitempty"` // without probing the paths to them
}

// NodeArgs name a node.
type NodeArgs struct {
	Name string `json:"name"`
}

// MembersArgs say how many members the store is to have.
type MembersArgs struct {
	Count int `json:"count"` // 1, 3 or 5; 0: as the number of nodes wants it
}

// FileArgs name a file of the host.
type FileArgs struct {
	Path  string `json:"path"`            // absolute
	Force bool   `json:"force,omitempty"` // Restore: also if the store answers
}

// ForceArgs are those of Reset.
type ForceArgs struct {
	Force bool `json:"force,omitempty"` // also if the store answers
}

// SnapshotReply tells what was written.
type SnapshotReply struct {
	Bytes int64 `json:"bytes"`
}
