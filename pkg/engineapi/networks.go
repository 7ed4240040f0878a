package engineapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"dcni/pkg/container"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
)

// A summary is a network in a list: without what is shown of one alone.
type summary struct {
	*catalog.Inspection
	Containers, Status, Routes *struct{} `json:",omitempty"`
}

// listNetworks is GET /networks.
func (s *Server) listNetworks(w http.ResponseWriter, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	if err := checkNetworkFilters(f); err != nil {
		return err
	}
	networks, err := s.backend.Networks()
	if err != nil {
		return err
	}
	slices.SortFunc(networks, func(x, y Network) int { return catalog.Natural(x.Name, y.Name) })
	out := []summary{}
	for _, n := range networks {
		if !catalog.Filters(f).Match(n.Conflist, n.InUse) {
			continue
		}
		one, err := n.Describe(false)
		if err != nil {
			return err
		}
		out = append(out, summary{Inspection: one})
	}
	return reply(w, http.StatusOK, out)
}

// checkNetworkFilters refuses filters that a list can't be filtered by.
func checkNetworkFilters(f map[string][]string) error {
	switch values := f["dangling"]; {
	case len(values) > 1:
		return network.Refuse(network.InvalidParameter, `got more than one value for filter key "dangling"`)
	case len(values) == 1 && !slices.Contains([]string{"true", "1", "false", "0"}, values[0]):
		return network.Refuse(network.InvalidParameter, `invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`)
	}
	return network.Refused(network.InvalidParameter, catalog.Filters(f).Validate())
}

// getNetwork is GET /networks/{id}.
func (s *Server) getNetwork(w http.ResponseWriter, c *call) error {
	if v := c.query.Get("verbose"); v != "" { // it shows what a swarm has besides
		if _, err := strconv.ParseBool(v); err != nil {
			return network.Refuse(network.InvalidParameter, "invalid value for verbose: %s: %w", v, err)
		}
	}
	n, err := s.network(c.PathValue("id"), c.query.Get("scope"))
	if err != nil {
		return err
	}
	one, err := n.Describe(true)
	if err != nil {
		return err
	}
	if c.version.before("1.52") {
		one.Status = nil
	}
	return reply(w, http.StatusOK, one)
}

// network returns the network that a word means, of those of a scope, or of all for "".
func (s *Server) network(word, scope string) (Network, error) {
	list, err := s.backend.Networks()
	if err != nil {
		return Network{}, err
	}
	if scope != "" {
		list = slices.DeleteFunc(list, func(n Network) bool { return catalog.ScopeOf(n.Driver) != scope })
	}
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Name
	}
	name, err := catalog.Find(names, word)
	if err != nil {
		return Network{}, err
	}
	return list[slices.Index(names, name)], nil
}

// A createRequest is the body of POST /networks/create. CheckDuplicate, of older versions, is
// left out: a name is never given twice.
type createRequest struct {
	Name, Driver, Scope    string
	EnableIPv4, EnableIPv6 *bool
	IPAM                   *struct {
		Driver  string
		Options map[string]string
		Config  []struct {
			Subnet, IPRange, Gateway string
			AuxiliaryAddresses       map[string]string
		}
	}
	Internal, Attachable, Ingress, ConfigOnly bool
	ConfigFrom                                *struct{ Network string }
	Options, Labels                           map[string]string
}

// options returns what the request asks for.
func (r createRequest) options(v apiVersion) *catalog.Options {
	o := &catalog.Options{
		Name: r.Name, Driver: r.Driver, DriverOptions: r.Options, Labels: r.Labels, Internal: r.Internal, Attachable: r.Attachable, ByAPI: true,
		IPv4: r.EnableIPv4, IPv6: r.EnableIPv6, IPAMDriver: "default",
	}
	if o.Driver == "" {
		o.Driver = "bridge"
	}
	if v.before("1.48") {
		o.IPv4 = nil
	}
	if r.IPAM == nil {
		return o
	}
	if r.IPAM.Driver != "" {
		o.IPAMDriver = r.IPAM.Driver
	}
	o.IPAMOptions = r.IPAM.Options
	for _, c := range r.IPAM.Config {
		o.Pools = append(o.Pools, catalog.Pool{Subnet: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Aux: c.AuxiliaryAddresses})
	}
	return o
}

// createNetwork is POST /networks/create.
func (s *Server) createNetwork(w http.ResponseWriter, c *call) error {
	var r createRequest
	if err := c.read(&r); err != nil {
		return err
	}
	create := Create{Options: r.options(c.version), Scope: r.Scope, Ingress: r.Ingress, ConfigOnly: r.ConfigOnly}
	if r.ConfigFrom != nil {
		create.ConfigFrom = r.ConfigFrom.Network
	}
	id, err := s.backend.Create(create)
	if err != nil {
		return err
	}
	s.happened()
	return reply(w, http.StatusCreated, struct {
		ID      string `json:"Id"`
		Warning string
	}{ID: id})
}

// removeNetwork is DELETE /networks/{id}.
func (s *Server) removeNetwork(w http.ResponseWriter, c *call) error {
	if err := s.backend.Remove(c.PathValue("id")); err != nil {
		return err
	}
	s.happened()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// pruneNetworks is POST /networks/prune.
func (s *Server) pruneNetworks(w http.ResponseWriter, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	if err := knownFilters(f, "until", "label", "label!"); err != nil {
		return err
	}
	until, err := untilOf(f["until"], time.Now())
	if err != nil {
		return err
	}
	if !s.pruning.CompareAndSwap(false, true) {
		return network.Refuse(network.Conflict, "a prune operation is already running")
	}
	defer s.pruning.Store(false)
	removed, err := s.backend.Prune(func(n *catalog.Conflist, created time.Time) bool {
		kept := len(f["label!"]) > 0 && hasLabels(n.Labels, f["label!"])
		return !kept && hasLabels(n.Labels, f["label"]) && (until.IsZero() || !created.After(until))
	})
	if err != nil {
		return err
	}
	s.happened()
	s.events.add(pruned())
	return reply(w, http.StatusOK, struct{ NetworksDeleted []string }{removed})
}

// An endpointRequest is the EndpointConfig of POST /networks/{id}/connect. Its other fields
// are what an inspection shows.
type endpointRequest struct {
	IPAMConfig *struct {
		IPv4Address, IPv6Address string
		LinkLocalIPs             []string
	}
	Links, Aliases []string
	DriverOpts     map[string]string
	GwPriority     int
	MacAddress     string
}

// connect is POST /networks/{id}/connect.
func (s *Server) connect(w http.ResponseWriter, c *call) error {
	var r struct {
		Container      string
		EndpointConfig *endpointRequest
	}
	if err := c.read(&r); err != nil {
		return err
	}
	n := container.Network{Name: c.PathValue("id")}
	if r.EndpointConfig != nil {
		if err := r.EndpointConfig.fill(&n, c.version); err != nil {
			return network.Refuse(network.InvalidParameter, "invalid endpoint settings:\n%w", err)
		}
	}
	if err := s.backend.Connect(n, r.Container); err != nil {
		return err
	}
	s.happened()
	w.WriteHeader(http.StatusOK)
	return nil
}

// fill reads the endpoint's configuration. A gateway priority of 0 is none. A MAC counts from
// version 1.54 on: clients of older ones send that of another network along.
func (r *endpointRequest) fill(n *container.Network, v apiVersion) (err error) {
	if c := r.IPAMConfig; c != nil {
		if c.IPv4Address != "" {
			n.IPv4, err = container.ParseIP(c.IPv4Address, false)
		}
		if err == nil && c.IPv6Address != "" {
			n.IPv6, err = container.ParseIP(c.IPv6Address, true)
		}
		if len(c.LinkLocalIPs) > 0 {
			return fmt.Errorf("link-local IP address %s: is not supported: interfaces have the kernel's", c.LinkLocalIPs[0])
		}
	}
	if err == nil && r.MacAddress != "" && !v.before("1.54") {
		n.MAC, err = container.ParseMAC(r.MacAddress)
	}
	for _, key := range slices.Sorted(maps.Keys(r.DriverOpts)) {
		if err == nil {
			err = n.SetDriverOpt(key + "=" + r.DriverOpts[key])
		}
	}
	for _, text := range r.Links {
		if err == nil {
			var l names.Link
			l, err = names.ParseLink(text)
			n.Links = append(n.Links, l)
		}
	}
	if r.GwPriority != 0 {
		n.GwPriority = &r.GwPriority
	}
	n.Aliases = r.Aliases
	return err
}

// disconnect is POST /networks/{id}/disconnect.
func (s *Server) disconnect(w http.ResponseWriter, c *call) error {
	var r struct {
		Container string
		Force     bool
	}
	if err := c.read(&r); err != nil {
		return err
	}
	if err := s.backend.Disconnect(c.PathValue("id"), r.Container, r.Force); err != nil {
		return err
	}
	s.happened()
	w.WriteHeader(http.StatusOK)
	return nil
}
