package engineapi

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"dcni/pkg/container"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
)

// A containerSummary is a container in a list. What dcni does not know, as the image, is
// empty.
type containerSummary struct {
	ID              string `json:"Id"`
	Names           []string
	Image, ImageID  string
	Command         string
	Created         int64 // seconds since 1970
	Ports           []portSummary
	Labels          map[string]string
	State, Status   string
	HostConfig      struct{ NetworkMode string }
	NetworkSettings struct{ Networks map[string]endpointSettings }
	Mounts          []struct{}
}

// A portSummary is a published port on one address.
type portSummary struct {
	IP          string
	PrivatePort int
	PublicPort  int
	Type        string
}

// endpointSettings are what is told of a container's attachment.
type endpointSettings struct {
	IPAMConfig          *endpointIPAM
	Links, Aliases      []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          int
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

type endpointIPAM struct {
	IPv4Address string `json:",omitempty"`
	IPv6Address string `json:",omitempty"`
}

// settings describes an endpoint.
func (e Endpoint) settings() endpointSettings {
	out := endpointSettings{
		Links: e.Links, Aliases: e.Aliases, DriverOpts: e.DriverOpts, MacAddress: e.MAC, GwPriority: e.GwPriority,
		NetworkID: network.ID(e.Network), DNSNames: e.DNSNames,
	}
	if e.IfName != "" { // else it is not attached yet
		out.EndpointID = e.EndpointID()
	}
	if e.IPv4.IsValid() || e.IPv6.IsValid() {
		out.IPAMConfig = &endpointIPAM{}
	}
	if e.IPv4.IsValid() {
		out.IPAMConfig.IPv4Address = e.IPv4.String()
	}
	if e.IPv6.IsValid() {
		out.IPAMConfig.IPv6Address = e.IPv6.String()
	}
	for _, a := range e.Addresses {
		gateway := ""
		if a.Gateway.IsValid() {
			gateway = a.Gateway.String()
		}
		switch ip := a.Address.Addr(); {
		case ip.Is4() && out.IPAddress == "":
			out.IPAddress, out.IPPrefixLen, out.Gateway = ip.String(), a.Address.Bits(), gateway
		case ip.Is6() && out.GlobalIPv6Address == "":
			out.GlobalIPv6Address, out.GlobalIPv6PrefixLen, out.IPv6Gateway = ip.String(), a.Address.Bits(), gateway
		}
	}
	return out
}

// networks describes the endpoints by network. Of a container that is on a network twice,
// the first one counts: Docker has no second.
func (c Container) networks() map[string]endpointSettings {
	out := map[string]endpointSettings{}
	for _, e := range c.Endpoints {
		if _, is := out[e.Network]; !is {
			out[e.Network] = e.settings()
		}
	}
	return out
}

// ports returns the published ports by container port, "80/tcp". What several networks of a
// container have is published once.
func (c Container) ports() map[string][]catalog.InspectedPort {
	out := map[string][]catalog.InspectedPort{}
	for _, e := range c.Endpoints {
		for key, list := range e.Inspect().Ports {
			for _, p := range list {
				if !slices.Contains(out[key], p) {
					out[key] = append(out[key], p)
				}
			}
		}
	}
	return out
}

// portSummaries lists the published ports, by number.
func (c Container) portSummaries() []portSummary {
	out := []portSummary{}
	for key, list := range c.ports() {
		inside, protocol, _ := strings.Cut(key, "/")
		for _, p := range list {
			one := portSummary{IP: p.HostIP, Type: protocol}
			one.PrivatePort, _ = strconv.Atoi(inside) // numbers that we wrote
			one.PublicPort, _ = strconv.Atoi(p.HostPort)
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b portSummary) int {
		return strings.Compare(fmt.Sprintf("%05d%s%s", a.PrivatePort, a.Type, a.IP), fmt.Sprintf("%05d%s%s", b.PrivatePort, b.Type, b.IP))
	})
	return out
}

// status describes the state in Docker's words.
func (c Container) status(now time.Time) string {
	since := func(t time.Time) string { return container.Ago(int64(now.Sub(t) / time.Second)) }
	switch c.State {
	case network.Exited:
		return fmt.Sprintf("Exited (%d) %s ago", c.ExitCode, since(c.Finished))
	case network.Created:
		return "Created"
	}
	return "Up " + since(c.Started)
}

func (c Container) summary(now time.Time) containerSummary {
	out := containerSummary{
		ID: c.ID, Command: strings.Join(c.Command, " "), Created: c.Created.Unix(), Ports: c.portSummaries(),
		Labels: map[string]string{}, State: c.State, Status: c.status(now), Mounts: []struct{}{},
	}
	for _, name := range c.Names {
		out.Names = append(out.Names, "/"+name)
	}
	maps.Copy(out.Labels, c.Labels)
	out.HostConfig.NetworkMode, out.NetworkSettings.Networks = c.Mode, c.networks()
	return out
}

// listContainers is GET /containers/json.
func (s *Server) listContainers(w http.ResponseWriter, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	if err := checkContainerFilters(f, c.version); err != nil {
		return err
	}
	limit := -1
	if text := c.query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil {
			return network.Refuse(network.InvalidParameter, "limit %q: must be a number, the most containers to list", text)
		}
	}
	list, err := s.backend.Containers()
	if err != nil {
		return err
	}
	if list, err = between(list, f); err != nil {
		return err
	}
	all := c.flag("all") || limit > 0 || len(f["status"])+len(f["exited"]) > 0
	now, out := time.Now(), []containerSummary{}
	for _, one := range list {
		if (all || one.State == running) && one.passes(f) && (limit <= 0 || len(out) < limit) {
			out = append(out, one.summary(now))
		}
	}
	return reply(w, http.StatusOK, out)
}

// running is Docker's word for the state of a container that runs.
const running = "running"

// checkContainerFilters refuses filters that Docker of the version does not have, and values that it does
// not take.
func checkContainerFilters(f map[string][]string, version apiVersion) error {
	known := []string{"ancestor", "before", "expose", "exited", "health", "id", "is-task", "isolation", "label", "name", "network",
		"publish", "since", "status", "volume"}
	if !version.before("1.56") {
		known = append(known, "annotation")
	}
	if err := knownFilters(f, known...); err != nil {
		return err
	}
	states := []string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}
	for _, v := range f["status"] {
		if !slices.Contains(states, v) {
			return network.Refuse(network.InvalidParameter, "invalid filter 'status=%s': invalid value for state (%s): must be one of %s", v, v, strings.Join(states, ", "))
		}
	}
	for _, v := range f["exited"] {
		if _, err := strconv.Atoi(v); err != nil {
			return network.Refuse(network.InvalidParameter, "invalid filter 'exited=%s': %w", v, err)
		}
	}
	return nil
}

// between leaves those that were made before and since others, which filters name.
func between(list []Container, f map[string][]string) ([]Container, error) {
	for _, word := range f["before"] {
		c, err := find(list, word)
		if err != nil {
			return nil, err
		}
		list = slices.DeleteFunc(slices.Clone(list), func(o Container) bool { return !o.Created.Before(c.Created) || o.ID == c.ID })
	}
	for _, word := range f["since"] {
		c, err := find(list, word)
		if err != nil {
			return nil, err
		}
		list = slices.DeleteFunc(slices.Clone(list), func(o Container) bool { return !o.Created.After(c.Created) || o.ID == c.ID })
	}
	return list, nil
}

// passes reports whether the container passes the filters. Of what dcni knows nothing of, a
// container has none: no image, volume, annotation, health or task.
func (c Container) passes(f map[string][]string) bool {
	like := func(pattern string) bool {
		re, err := regexp.Compile(pattern)
		return err == nil && slices.ContainsFunc(c.Names, func(name string) bool { return re.MatchString(name) || re.MatchString("/"+name) })
	}
	on := func(v string) bool {
		return slices.ContainsFunc(c.Endpoints, func(e Endpoint) bool {
			return e.Network == v || v != "" && strings.HasPrefix(network.ID(e.Network), v)
		})
	}
	published := func(v string) bool {
		if !strings.Contains(v, "/") {
			v += "/tcp"
		}
		return len(c.ports()[v]) > 0
	}
	never := func(string) bool { return false }
	return anyOf(f["id"], begins(c.ID)) && anyOf(f["name"], like) && anyOf(f["network"], on) && anyOf(f["publish"], published) &&
		anyOf(f["status"], is(c.State)) && hasLabels(c.Labels, f["label"]) &&
		anyOf(f["exited"], func(v string) bool { return c.State == network.Exited && v == strconv.Itoa(c.ExitCode) }) &&
		anyOf(f["health"], is("none")) && anyOf(f["is-task"], func(v string) bool { return v == "false" || v == "0" }) &&
		anyOf(f["ancestor"], never) && anyOf(f["annotation"], never) && anyOf(f["volume"], never) && anyOf(f["isolation"], never) && anyOf(f["expose"], published)
}

// find returns the container that a word means: by its ID, its name, or the beginning of its
// ID. Where several have a name, one that runs counts.
func find(list []Container, word string) (Container, error) {
	name := strings.TrimPrefix(word, "/")
	for _, means := range []func(Container) bool{
		func(c Container) bool { return c.ID == word },
		func(c Container) bool { return slices.Contains(c.Names, name) && c.State == running },
		func(c Container) bool { return slices.Contains(c.Names, name) },
		func(c Container) bool { return strings.HasPrefix(c.ID, word) && word != "" },
	} {
		var found []Container
		for _, c := range list {
			if means(c) {
				found = append(found, c)
			}
		}
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return Container{}, network.Refuse(network.InvalidParameter, "Multiple IDs found with provided prefix: %s", word)
		}
	}
	return Container{}, &network.NoContainerError{Word: word}
}

// A containerDetail is a container as GET /containers/{id}/json shows it.
type containerDetail struct {
	ID             string `json:"Id"`
	Created        string
	Path           string
	Args           []string
	State          containerState
	Image          string
	ResolvConfPath string
	HostnamePath   string
	HostsPath      string
	LogPath        string
	Name           string
	RestartCount   int
	Driver         string
	Platform       string
	MountLabel     string
	ProcessLabel   string
	ExecIDs        []string
	HostConfig     struct {
		NetworkMode     string
		Links           []string
		PortBindings    map[string][]catalog.InspectedPort
		PublishAllPorts bool
		AutoRemove      bool
		RestartPolicy   struct{ Name string }
	}
	Mounts          []struct{}
	Config          containerConfig
	NetworkSettings networkSettings
}

type containerState struct {
	Status, Error                                string
	Running, Paused, Restarting, OOMKilled, Dead bool
	Pid, ExitCode                                int
	StartedAt, FinishedAt                        string
}

type containerConfig struct {
	Hostname     string
	User         string
	WorkingDir   string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string
	Cmd          []string
	Image        string
	Labels       map[string]string
}

// networkSettings are a container's networks. The fields of firstNetwork are those of versions
// before 1.52.
type networkSettings struct {
	SandboxID  string
	SandboxKey string
	Ports      map[string][]catalog.InspectedPort
	Networks   map[string]endpointSettings
	*firstNetwork
}

// firstNetwork is what older versions tell of the network bridge, if the container is on it.
type firstNetwork struct {
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []struct{}
	SecondaryIPv6Addresses []struct{}
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
}

// getContainer is GET /containers/{id}/json. A pod's name has a slash.
func (s *Server) getContainer(w http.ResponseWriter, c *call) error {
	word, is := strings.CutSuffix(c.PathValue("id"), "/json")
	if !is {
		return s.unserved(w, c)
	}
	list, err := s.backend.Containers()
	if err != nil {
		return err
	}
	one, err := find(list, word)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, one.detail(c.version))
}

// inspectVersion is the last version in which a container's address is also told beside its
// networks, as older templates want it.
const inspectVersion = "1.51"

// Inspect returns a container as `docker inspect` shows it.
func (c Container) Inspect() any { return c.detail(parseVersion(inspectVersion)) }

// Find returns the container that a word means: by its ID, its name, or the beginning of its
// ID. Where several have a name, one that runs counts. The errors are Docker's.
func Find(list []Container, word string) (Container, error) { return find(list, word) }

// shown is a time as Docker shows it, also one that is not known.
func shown(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// links returns the links on the default bridge, "/db:/web/alias" each: those of other networks are
// in their endpoints alone, as with Docker.
func (c Container) links() (list []string) {
	for _, e := range c.Endpoints {
		if e.Attachment.Network != "bridge" {
			continue
		}
		for _, l := range e.Links {
			target, alias, _ := strings.Cut(l, ":")
			list = append(list, "/"+target+":/"+c.Names[0]+"/"+alias)
		}
	}
	return list
}

func (c Container) detail(v apiVersion) *containerDetail {
	out := &containerDetail{ID: c.ID, Created: shown(c.Created), Args: []string{}, Name: "/" + c.Names[0], Platform: "linux", Mounts: []struct{}{}}
	if len(c.Command) > 0 {
		out.Path, out.Args = c.Command[0], c.Command[1:]
	}
	out.State = containerState{
		Status: c.State, Running: c.State == running, Pid: c.PID, ExitCode: c.ExitCode, StartedAt: shown(c.Started), FinishedAt: shown(c.Finished),
	}
	if c.Files != "" {
		out.ResolvConfPath, out.HostsPath, out.HostnamePath = filepath.Join(c.Files, "resolv.conf"), filepath.Join(c.Files, "hosts"), filepath.Join(c.Files, "hostname")
	}
	out.Config = containerConfig{Hostname: c.Hostname, Env: []string{}, Cmd: c.Command, Labels: map[string]string{}}
	maps.Copy(out.Config.Labels, c.Labels)
	out.Config.User, out.Config.WorkingDir, out.LogPath = c.User, c.Workdir, c.Output
	out.Config.Env = append(out.Config.Env, c.Env...)
	for _, port := range c.Exposed {
		if out.Config.ExposedPorts == nil {
			out.Config.ExposedPorts = map[string]struct{}{}
		}
		out.Config.ExposedPorts[port] = struct{}{}
	}
	out.HostConfig.AutoRemove, out.HostConfig.RestartPolicy.Name = c.AutoRemove, "no"
	out.NetworkSettings = networkSettings{SandboxID: c.ID, SandboxKey: c.NetNS, Ports: c.ports(), Networks: c.networks()}
	out.HostConfig.NetworkMode, out.HostConfig.PortBindings, out.HostConfig.PublishAllPorts = c.Mode, c.PortBindings, c.PublishAll
	out.HostConfig.Links = c.links()
	if c.PortBindings == nil {
		out.HostConfig.PortBindings = c.ports()
	}
	if v.before("1.52") {
		out.NetworkSettings.firstNetwork = &firstNetwork{}
		if e, is := out.NetworkSettings.Networks["bridge"]; is {
			*out.NetworkSettings.firstNetwork = firstNetwork{
				EndpointID: e.EndpointID, Gateway: e.Gateway, GlobalIPv6Address: e.GlobalIPv6Address, GlobalIPv6PrefixLen: e.GlobalIPv6PrefixLen,
				IPAddress: e.IPAddress, IPPrefixLen: e.IPPrefixLen, IPv6Gateway: e.IPv6Gateway, MacAddress: e.MacAddress,
			}
		}
	}
	return out
}
